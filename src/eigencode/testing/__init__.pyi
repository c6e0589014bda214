"""The checks, one line for each."""

from eigencode.testing.codes import check_code as check_code
from eigencode.testing.corruptions import check_corruption as check_corruption
from eigencode.testing.likelihoods import check_likelihood as check_likelihood
from eigencode.testing.penalties import check_penalty as check_penalty
