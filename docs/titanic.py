"""Makes titanic.csv, the table of the page on tables: two of three passengers of the Titanic.

    python docs/titanic.py

The source is "Titanic" of OpenML (number 40945; licence: public), by Frank E. Harrell Jr. and Thomas Cason, Vanderbilt
University. scikit-learn's package has the file for its own tests.
"""

import gzip
import io
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets.tests.data import openml

PORTS = {"C": "Cherbourg", "Q": "Queenstown", "S": "Southampton"}
CLASSES = {1: "First", 2: "Second", 3: "Third"}


def passengers() -> pd.DataFrame:
    """The source's rows."""
    path = resources.files(openml) / "id_40945" / "data-v1-dl-16826755.arff.gz"
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    names = [line.split("'")[1] for line in lines if line.startswith("@attribute")]
    rows = lines[lines.index("@data") + 1 :]
    return pd.read_csv(
        io.StringIO("\n".join(rows)), names=names, na_values="?", escapechar="\\"
    )


def main() -> None:
    """Write the table beside this script."""
    given = passengers()
    given = given.sample(frac=2 / 3, random_state=0).sort_index()
    is_child = given["age"] < 16
    who = np.where(is_child, "child", np.where(given["sex"] == "male", "man", "woman"))
    table = pd.DataFrame(
        {
            "survived": given["survived"],
            "pclass": given["pclass"],
            "sex": given["sex"],
            "age": given["age"].round(2),
            "sibsp": given["sibsp"],
            "parch": given["parch"],
            "fare": given["fare"],
            "embarked": given["embarked"],
            "class": given["pclass"].map(CLASSES),
            "who": who,
            "adult_male": who == "man",
            "deck": given["cabin"].str.get(0),
            "embark_town": given["embarked"].map(PORTS),
            "alive": given["survived"].map({1: "yes", 0: "no"}),
            "alone": given["sibsp"] + given["parch"] == 0,
            "name": given["name"],
        }
    )
    table.to_csv(Path(__file__).with_name("titanic.csv"), index=False)


if __name__ == "__main__":
    main()
