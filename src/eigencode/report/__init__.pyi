from eigencode.report.notebook_card import card as card
from eigencode.report.page import write as write
