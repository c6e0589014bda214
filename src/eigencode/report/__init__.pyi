from eigencode.report.card import card as card
from eigencode.report.page import write as write
