from eigencode.report.page import write as write
