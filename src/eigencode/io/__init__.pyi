from eigencode.io.decoding import Decoder as Decoder
from eigencode.io.decoding import typed as typed
from eigencode.io.encoding import Encoder as Encoder
from eigencode.io.storage import read as read
from eigencode.io.storage import save as save
from eigencode.io.storage import version_of as version_of
from eigencode.io.weights import restore_weights as restore_weights
from eigencode.io.weights import weights_of as weights_of
