from eigencode.export.choice import graph_of as graph_of
from eigencode.export.files import write as write
from eigencode.export.loops import TRANSLATIONS as TRANSLATIONS
