"""The public names of the package."""

from eigencode._version import __version__ as __version__
from eigencode.checkpoint import Checkpoint as Checkpoint
from eigencode.estimators import *
from eigencode.estimators.fit_many import fit_many as fit_many
from eigencode.model.composition import Composition as Composition
from eigencode.model.composition import Noise as Noise
from eigencode.model.composition import Trace as Trace
from eigencode.model.objective import Objective as Objective
from eigencode.search import AutoencoderSearch as AutoencoderSearch
