r"""
Greedy pretraining by a stack of shallow autoencoders
=====================================================

Deep networks of sigmoid units learn badly from random weights, since the gradient in the first layers is too small.
Pretraining fits one shallow autoencoder after the other, each to the codes of the one before; together they are the
start of one deep network (Hinton & Salakhutdinov, 2006; Bengio et al., 2007).
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from eigencode import StackedAutoencoder

train, test = train_test_split(load_digits().data, test_size=0.25, random_state=0)
options = {
    "layers": (48, 24, 12, 6),
    "activation": "sigmoid",
    "max_epochs": 40,
    "random_state": 0,
}

curves = {}
for name, pretrain in [("pretrained layer by layer", True), ("random weights", False)]:
    model = StackedAutoencoder(pretrain=pretrain, **options)
    curves[name] = [row["validation_objective"] for row in model.iter_fit(train)]
    print(
        f"{name:26s} {model.reconstruction_error(test).mean():.1f} "
        "squared error per image"
    )
    if pretrain:
        layers = model.layers_

# %%
# Left: the curves of the layers. Right: those of the whole network, with the same number of epochs.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
for number, layer in enumerate(layers, 1):
    left.plot(
        [row["validation_objective"] for row in layer.history_], label=f"layer {number}"
    )
left.set(xlabel="epoch", ylabel="validation objective of the layer, nats")
left.legend()
for name, curve in curves.items():
    right.plot(curve, label=name)
right.set(xlabel="epoch of fine-tuning", ylabel="validation objective, nats")
right.legend()
assert min(curves["pretrained layer by layer"]) < min(curves["random weights"])
