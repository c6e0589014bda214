r"""
A linear autoencoder spans the principal subspace
=================================================

With linear maps and squared error,

.. math:: \underset{A, B}{\min} \; E \lVert x - B A x \rVert^2 = \sum_{i > k} l_i ,

the sum of the covariance's discarded eigenvalues, and the decoder spans the leading principal directions (Baldi &
Hornik, 1989). Its columns are *not* principal directions: any invertible linear map of the code has the same loss.
"""

import matplotlib.pyplot as plt
import numpy as np
import scipy.linalg
from sklearn.datasets import load_digits

from eigencode import LinearAutoencoder

X = load_digits().data
model = LinearAutoencoder(8, scale="common", solver="gradient", random_state=0)

# %%
# Trained by gradient from random weights, the decoder rotates into PCA's subspace: the largest of the eight principal
# angles between the two becomes zero, while the angles between their columns stay large.

exact = LinearAutoencoder(8, scale="common").fit(X)
principal = exact.composition_.decoder.affine.weight.detach().numpy()
subspace, columns, losses = [], [], []
for row in model.iter_fit(X):
    decoder = model.composition_.decoder.affine.weight.detach().numpy()
    subspace.append(np.degrees(scipy.linalg.subspace_angles(decoder, principal).max()))
    units = decoder / np.linalg.norm(decoder, axis=0)
    cosines = np.abs((units * principal / np.linalg.norm(principal, axis=0)).sum(0))
    columns.append(np.degrees(np.arccos(np.clip(cosines, 0, 1))).max())
    losses.append(row["validation_objective"])

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
left.semilogy(subspace, label="largest principal angle")
left.semilogy(columns, label="largest angle between columns")
left.set(xlabel="epoch", ylabel="degrees")
left.legend()
right.semilogy(np.array(losses) - exact.best_objective_ + 1e-12)
right.set(xlabel="epoch", ylabel="loss minus PCA's, squared error per row")

# %%
# The two losses agree to many digits.

errors = [
    fitted.reconstruction_error(X, scaled=True).mean() for fitted in (model, exact)
]
print(f"by gradient {errors[0]:.10f}, PCA {errors[1]:.10f}")
assert abs(errors[0] - errors[1]) < 1e-6 * errors[1]
