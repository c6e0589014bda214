from eigencode.data.tables.column import Column as Column
from eigencode.data.tables.frames import as_frame as as_frame
from eigencode.data.tables.frames import as_table as as_table
from eigencode.data.tables.schema import Schema as Schema
