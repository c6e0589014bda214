"""Convolutional networks against convolutions written out, and what they promise beside a linear path."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn
from torch.nn import functional as F

from eigencode import Autoencoder, Composition, load
from eigencode.errors import OptionError
from eigencode.parts import MLP, ConvolutionalDecoder, ConvolutionalEncoder, Custom, LinearPath, Network, Tied
from eigencode.training.state import FlatParameters

SHAPES = [(1, 8, 8), (2, 9, 7), (3, 6, 5), (1, 1, 11), (2, 3, 1), (4, 1, 1)]
CODE = 5


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(n, d, seed=1):
    return torch.randn(n, d, dtype=torch.float64, generator=generator(seed))


def encoder_for(shape, channels=(4, 6), activation="gelu", n_outputs=CODE):
    encoder = ConvolutionalEncoder(shape, channels, activation)
    encoder.setup(int(np.prod(shape)), n_outputs, generator())
    return encoder.double()


def decoder_for(shape, channels=(6, 4), activation="gelu", n_outputs=None):
    decoder = ConvolutionalDecoder(shape, channels, activation)
    decoder.setup(CODE, n_outputs or int(np.prod(shape)), generator())
    return decoder.double()


def randomised(network):
    """Biases and all, so that no zero hides a mistake."""
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator(number)))
    return network


# -- the formula


def literal_convolution(x, weight, bias):
    """y[o, i, j] = b[o] + sum of W[o, c, k, l] x[c, 2i + k - p, 2j + l - p], p = 1 along even sides and 2 along odd.

    A side of one pixel is left alone.
    """
    (_, n_channels, *size), n_outputs = x.shape, len(weight)
    steps = [2 if side > 1 else 1 for side in size]
    padding = [1 + side % 2 if side > 1 else 0 for side in size]
    taps = [4 if side > 1 else 1 for side in size]
    assert weight.shape == (n_outputs, n_channels, *taps)
    padded = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    height, width = ((side + 1) // 2 for side in size)
    y = x.new_zeros(len(x), n_outputs, height, width)
    for i in range(height):
        for j in range(width):
            top, left = steps[0] * i, steps[1] * j
            seen = padded[:, :, top : top + taps[0], left : left + taps[1]]
            y[:, :, i, j] = torch.einsum("nckl,ockl->no", seen, weight) + bias
    return y


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_encoder_is_its_formula(shape):
    encoder = randomised(encoder_for(shape, activation="tanh"))
    x = rows(3, encoder.stages[0].in_channels * shape[1] * shape[2])
    features = x.reshape(3, *shape)
    for layer in encoder.stages[::2]:
        features = torch.tanh(literal_convolution(features, layer.weight, layer.bias))
    expected = features.permute(0, 2, 3, 1).flatten(1) @ encoder.last.weight.T + encoder.last.bias
    torch.testing.assert_close(encoder(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 12, 20)], ids=str)
def test_the_encoder_is_torchs_convolutions(shape):
    encoder = randomised(encoder_for(shape, activation="relu"))
    x = rows(2, int(np.prod(shape)))
    first, second = encoder.stages[::2]
    features = F.relu(F.conv2d(x.reshape(2, *shape), first.weight, first.bias, stride=2, padding=1))
    features = F.relu(F.conv2d(features, second.weight, second.bias, stride=2, padding=1))
    expected = F.linear(features.permute(0, 2, 3, 1).flatten(1), encoder.last.weight, encoder.last.bias)
    torch.testing.assert_close(encoder(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_decoder_with_the_encoders_weights_is_the_encoders_transpose(shape):
    encoder = encoder_for(shape, activation="identity")
    decoder = decoder_for(shape, activation="identity")
    with torch.no_grad():
        decoder.first.weight.copy_(encoder.last.weight.T)
        for there, back in zip(encoder.stages[::2], decoder.stages[1::2][::-1], strict=True):
            back.weight.copy_(there.weight)
    forward = encoder(torch.eye(int(np.prod(shape)), dtype=torch.float64))  # (d, k)
    backward = decoder(torch.eye(CODE, dtype=torch.float64))  # (k, d)
    torch.testing.assert_close(backward, forward.T, rtol=1e-12, atol=1e-12)


def test_the_decoder_adds_a_bias_of_each_channel_within_and_of_each_cell_at_the_end():
    shape = (2, 9, 7)
    decoder = randomised(decoder_for(shape, activation="tanh"))
    z = rows(3, CODE)
    first, last = decoder.stages[1], decoder.stages[3]
    # 9 x 7 halves to 5 x 4, and that to 3 x 2; an output of odd side lies one pixel further in.
    features = (z @ decoder.first.weight.T + decoder.first.bias).reshape(3, 3, 2, 6).permute(0, 3, 1, 2)
    features = F.conv_transpose2d(torch.tanh(features), first.weight, first.bias, stride=2, padding=0)
    features = features[:, :, 2:7, 1:5]
    image = F.conv_transpose2d(torch.tanh(features), last.weight, stride=2, padding=0)[:, :, 2:11, 2:9]
    torch.testing.assert_close(decoder(z), image.flatten(1) + decoder.bias, rtol=1e-12, atol=1e-12)


def test_a_shift_by_all_strides_shifts_the_features_by_one():
    encoder = randomised(encoder_for((2, 32, 32)))
    image = torch.zeros(1, 2, 32, 32, dtype=torch.float64)
    image[:, :, 8:20, 8:20] = rows(2, 144).reshape(1, 2, 12, 12)
    shifted = image.roll((4, 4), dims=(2, 3))
    before, after = encoder.stages(image), encoder.stages(shifted)
    torch.testing.assert_close(after[..., 2:-1, 2:-1], before[..., 1:-2, 1:-2], rtol=1e-12, atol=1e-12)
    assert before[..., 1:-1, 1:-1].std() > 0.1
    by_one = encoder.stages(image.roll((1, 1), dims=(2, 3)))
    assert (by_one[..., 1:-1, 1:-1] - before[..., 1:-1, 1:-1]).abs().max() > 0.1


# -- no checkerboard


def interior_spread(images, border):
    inner = images[..., border:-border, border:-border]
    assert inner.numel() > 100
    return float(inner.max() - inner.min())


@pytest.mark.parametrize("size", [32, 37], ids=str)
def test_a_constant_feature_map_gives_a_constant_interior(size):
    """With equal weights an output counts the paths that lead to it: any unevenness is the kernel's own pattern."""
    shape = (1, size, size)
    decoder = decoder_for(shape, channels=(3, 2, 2), activation="identity")
    side = -(-size // 8)
    features = torch.ones(1, 3, side, side, dtype=torch.float64)
    for stage in decoder.stages[1::2]:
        stage.weight.requires_grad_(False).fill_(1.0)
    assert interior_spread(decoder.stages(features).detach(), border=7) == 0
    # The same measure sees the checkerboard of a kernel that the stride does not divide.
    small = torch.ones(1, 1, 16, 16, dtype=torch.float64)
    three = F.conv_transpose2d(small, small[..., :3, :3], stride=2, padding=1, output_padding=1)
    assert interior_spread(three, border=7) == 3


def test_at_random_weights_all_interior_pixels_vary_alike():
    """The variance of an output over draws of the last weights is the number of paths times the weights' variance."""
    decoder = decoder_for((1, 16, 16), channels=(3,))
    features = torch.ones(1, 3, 8, 8, dtype=torch.float64)
    last = decoder.stages[1]

    def image(weight):
        return torch.func.functional_call(last, {"weight": weight}, (features,))[0, 0]

    derivative = torch.func.jacrev(image)(last.weight)  # (16, 16, *weight)
    assert interior_spread(derivative.square().sum((2, 3, 4, 5)).detach(), border=2) == 0


# -- weights and randomness


def xavier_deviation(weight, n_inputs, n_outputs):
    """How far the variance is from Glorot and Bengio's, in standard errors of a uniform sample's variance."""
    expected = 2 / (n_inputs + n_outputs)
    return float(abs(weight.detach().var() / expected - 1) / (0.8 / weight.numel()) ** 0.5)


def connections(layer, n_channels, size):
    """How many inputs an interior output depends on, and how many outputs an interior input moves."""
    image = torch.zeros(1, n_channels, size, size, dtype=torch.float64, requires_grad=True)
    middle = layer(image).shape[-1] // 2
    (gradient,) = torch.autograd.grad(layer(image)[0, 0, middle, middle], image)
    bump = image.detach().clone()
    bump[0, 0, size // 2, size // 2] = 1
    return int(gradient.count_nonzero()), int((layer(bump) - layer(image)).count_nonzero())


def test_weights_have_xaviers_variance_by_the_connections_there_are():
    encoder = encoder_for((1, 32, 32), channels=(48, 64), activation="identity")
    there = encoder.stages[2]
    back = decoder_for((1, 32, 32), channels=(64, 48, 1), activation="identity").stages[1]
    for layer, n_inputs, size in ((there, 48, 8), (back, 64, 8)):
        seen, reached = connections(layer, n_inputs, size)
        assert xavier_deviation(layer.weight, seen, reached) < 4
        assert not layer.bias.any()


@pytest.mark.parametrize("make", [encoder_for, decoder_for])
def test_the_generator_alone_decides_the_weights(make):
    before = torch.get_rng_state()
    network, again = make((1, 9, 8)), make((1, 9, 8))
    assert torch.equal(torch.get_rng_state(), before)
    for one, other in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    other = clone(network)
    other.setup(*((72, CODE) if make is encoder_for else (CODE, 72)), generator(100))
    for name, weight in network.named_parameters():
        if name.endswith("weight"):
            assert (weight != dict(other.named_parameters())[name]).all()


# -- every pixel


@pytest.mark.parametrize("shape", [*SHAPES, (1, 28, 28), (1, 13, 6)], ids=str)
def test_every_pixel_is_read_and_every_pixel_is_written(shape):
    d = int(np.prod(shape))
    encoder, decoder = encoder_for(shape, (4, 5, 6), "tanh"), decoder_for(shape, (6, 5, 4), "tanh")
    read = torch.func.jacrev(encoder)(rows(1, d)[0])
    assert read.shape == (CODE, d)
    assert (read.abs().sum(0) > 1e-9).all()
    written = torch.func.jacrev(decoder)(rows(1, CODE)[0])
    assert written.shape == (d, CODE)
    assert (written.abs().sum(1) > 1e-9).all()


def test_a_decoder_may_have_several_numbers_a_cell():
    decoder = randomised(decoder_for((3, 6, 5), n_outputs=60))
    assert decoder.last.out_channels == 2
    assert decoder(rows(4, CODE)).shape == (4, 60)
    assert decoder.output_bias.shape == (60,)


# -- beside a linear path

PATHS = {
    "encoder": (ConvolutionalEncoder((2, 5, 6), (4, 6)), 60, 7),
    "decoder": (ConvolutionalDecoder((2, 5, 6)), 7, 60),
}


@pytest.fixture(params=PATHS)
def path(request):
    network, n_inputs, n_outputs = PATHS[request.param]
    network = LinearPath(clone(network))
    network.setup(n_inputs, n_outputs, generator())
    return network.double()


def test_a_linear_path_starts_as_its_linear_map_exactly(path):
    x = rows(4, path.linear.in_features)
    assert torch.equal(path(x), path.linear(x))
    assert path.output_bias is path.linear.bias
    assert path.network.output_bias is None


def test_training_moves_the_silent_network_and_then_all_of_it(path):
    x, target = rows(40, path.linear.in_features), rows(40, path.linear.out_features, seed=2)
    optimizer = torch.optim.SGD(path.network.parameters(), lr=0.01)
    loss = (path(x) - target).square().mean()
    loss.backward()
    last = path.network.last.weight
    assert last.grad.abs().min() > 0
    assert all(not p.grad.any() for p in path.network.parameters() if p is not last)
    optimizer.step()
    optimizer.zero_grad()
    later = (path(x) - target).square().mean()
    later.backward()
    assert later < loss
    assert all(p.grad.any() for p in path.network.parameters())


@pytest.mark.parametrize("name", PATHS)
def test_a_gate_silences_too(name):
    network, n_inputs, n_outputs = PATHS[name]
    path = LinearPath(clone(network), gated=True)
    path.setup(n_inputs, n_outputs, generator())
    path.double()
    x = rows(4, n_inputs)
    assert torch.equal(path(x), path.linear(x))
    assert path.network.last.weight.all()
    path(x).square().sum().backward()
    assert path.gate.grad.all()


@pytest.mark.parametrize("make", [encoder_for, decoder_for])
def test_silence_is_zero_everywhere(make):
    network = randomised(make((2, 9, 7)))
    network.silence()
    x = rows(3, 126 if isinstance(network, ConvolutionalEncoder) else CODE)
    assert not network(x).any()
    network.drop_output_bias()
    network.silence()
    assert not network(x).any()


class BiasPerChannel(Network):
    """A user's network whose last operation is a convolution with one bias a channel."""

    def setup(self, n_inputs, n_outputs, generator):
        self.convolution = nn.utils.skip_init(nn.Conv1d, 1, 2, 3, padding=1)
        with torch.no_grad():
            for parameter in self.convolution.parameters():
                parameter.normal_(generator=generator)

    def silence(self):
        for parameter in self.convolution.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x):
        return self.convolution(torch.tanh(x)[:, None]).flatten(1)


def test_a_users_network_runs_beside_a_linear_path_once_it_can_be_silenced():
    path = LinearPath(BiasPerChannel())
    path.setup(6, 12, generator())
    path.double()
    x = rows(4, 6)
    assert torch.equal(path(x), path.linear(x))
    path(x).square().sum().backward()
    assert path.network.convolution.weight.grad.all()


def test_a_network_that_cannot_be_silenced_can_be_gated():
    module = MLP((3,))
    module.setup(4, 2, generator())
    with pytest.raises(OptionError, match="(?s)Custom has no method silence.*gated=True"):
        LinearPath(Custom(nn.Sequential(module))).setup(4, 2, generator())
    path = LinearPath(Custom(nn.Sequential(module)), gated=True)
    path.setup(4, 2, generator())
    x = rows(5, 4).float()
    assert torch.equal(path(x), path.linear(x))


def test_convolutions_are_not_mirrored_by_tied_weights():
    for encoder in (ConvolutionalEncoder((1, 4, 4)), LinearPath(ConvolutionalEncoder((1, 4, 4)), gated=True)):
        with pytest.raises(OptionError, match="Tied weights need an encoder made of layers.*Use tied=False"):
            Tied().mirror(encoder)


def test_the_best_constant_is_a_start_that_the_output_bias_gives_exactly():
    decoder = randomised(decoder_for((2, 5, 6)))
    mean = rows(9, 60).mean(0)
    decoder.silence()
    with torch.no_grad():
        decoder.output_bias.copy_(mean)
    assert torch.equal(decoder(rows(3, CODE)), mean.expand(3, 60))


# -- a pure function


@pytest.mark.parametrize("make", [encoder_for, decoder_for])
def test_many_models_are_one_program(make):
    networks = [randomised(make((2, 9, 7))) for _ in range(3)]
    with torch.no_grad():
        for number, network in enumerate(networks):
            for parameter in network.parameters():
                parameter.mul_(1 + number)
    x = rows(4, 126 if make is encoder_for else CODE)
    stacked, _ = torch.func.stack_module_state(networks)

    def one(own):
        return torch.func.functional_call(networks[0], own, (x,))

    together = torch.func.vmap(one)(stacked)
    apart = torch.stack([network(x) for network in networks])
    torch.testing.assert_close(together, apart, rtol=1e-10, atol=1e-12)

    def jacobians(own):
        return torch.func.vmap(torch.func.jacrev(lambda row: torch.func.functional_call(networks[0], own, (row,))))(x)

    together = torch.func.vmap(jacobians)(stacked)
    for network, found in zip(networks, together, strict=True):
        for row, jacobian in zip(x, found, strict=True):
            expected = torch.autograd.functional.jacobian(network, row)
            torch.testing.assert_close(jacobian, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("make", [encoder_for, decoder_for])
def test_forward_derivatives_agree_with_backward_ones(make):
    network = randomised(make((1, 5, 6)))
    x = rows(1, 30 if make is encoder_for else CODE)[0]
    forward, backward = torch.func.jacfwd(network)(x), torch.func.jacrev(network)(x)
    torch.testing.assert_close(forward, backward, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("make", [encoder_for, decoder_for])
def test_rows_do_not_mix_and_may_have_more_axes(make):
    network = randomised(make((2, 5, 6)))
    x = rows(6, 60 if make is encoder_for else CODE)
    whole = network(x)
    for i in range(6):
        torch.testing.assert_close(network(x[i]), whole[i], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(network(x.reshape(2, 3, -1)), whole.reshape(2, 3, -1), rtol=1e-12, atol=1e-12)
    assert network(x[:0]).shape == (0, whole.shape[1])


@pytest.mark.parametrize("n_channels", [1, 3])
def test_feature_maps_lie_channels_last_even_when_the_weights_are_views_of_one_vector(n_channels):
    shape = (n_channels, 12, 12)
    encoder, decoder = encoder_for(shape).float(), decoder_for(shape).float()
    FlatParameters(nn.ModuleList([encoder, decoder]))
    found = []
    for layer in (*encoder.stages[::2], *decoder.stages[1::2]):
        layer.register_forward_hook(lambda _, inputs, output: found.append((inputs[0].stride(1), output.stride(1))))
    decoder(encoder(rows(4, 144 * n_channels).float()))
    assert found == [(1, 1)] * 4


# -- the contract of parts, and errors


@pytest.mark.parametrize(
    "part",
    [
        ConvolutionalEncoder((1, 28, 28)),
        ConvolutionalEncoder(image_shape=(3, 5, 7), channels=(8,), activation="tanh"),
        ConvolutionalDecoder(image_shape=(3, 5, 7), channels=(8, 4), activation=nn.ELU(alpha=0.5)),
        LinearPath(ConvolutionalDecoder((1, 28, 28)), gated=True),
    ],
    ids=repr,
)
def test_a_part_is_its_arguments(part):
    again = clone(part)
    assert again is not part
    assert repr(again) == repr(part)
    known = {**globals(), "ELU": nn.ELU}
    assert eval(repr(part), known).get_params().keys() == part.get_params().keys()
    plain = {name: value for name, value in part.get_params().items() if not isinstance(value, nn.Module)}
    assert plain == {name: again.get_params()[name] for name in plain}
    assert list(again.parameters()) == []


def test_an_autoencoder_of_convolutions_starts_at_pca_and_is_stored(digits, tmp_path):
    model = Autoencoder(
        n_components=4,
        encoder=LinearPath(ConvolutionalEncoder((1, 8, 8), (4, 8))),
        decoder=LinearPath(ConvolutionalDecoder((1, 8, 8), (8, 4))),
        max_epochs=4,
        random_state=0,
    ).fit(digits[:600])
    objectives = [row["validation_objective"] for row in model.history_]
    assert model.init_ == "linear"
    baseline = model.baseline_.reconstruction_error(digits[:600]).mean()
    assert min(objectives) < objectives[0]
    assert model.reconstruction_error(digits[:600]).mean() < baseline
    model.save(tmp_path / "images.safetensors")
    again = load(tmp_path / "images.safetensors")
    np.testing.assert_array_equal(again.transform(digits[:9]), model.transform(digits[:9]))
    assert repr(again.composition_.decoder) == repr(model.composition_.decoder)


def test_a_composition_of_convolutions_learns_its_rows():
    model = Composition(ConvolutionalEncoder((1, 6, 6), (8,)), ConvolutionalDecoder((1, 6, 6), (8,)))
    model.setup(36, 2, generator())
    model.double()
    codes = rows(30, 2)
    x = torch.tanh(codes @ rows(2, 36, seed=3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (model(x).p.mean - x).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.1 * x.var()


@pytest.mark.parametrize("kind", [ConvolutionalEncoder, ConvolutionalDecoder])
@pytest.mark.parametrize(
    ("image_shape", "channels", "message"),
    [
        ((28, 28), (4,), r"must be three numbers \(channels, height, width\).*Use image_shape=\(1, 28, 28\)"),
        ((1, 1, 28, 28), (4,), r"must be three numbers \(channels, height, width\).*Got \(1, 1, 28, 28\)"),
        ((1, 0, 28), (4,), r"'image_shape' parameter of .* must be three positive integers.*Got \(1, 0, 28\)"),
        ((1, -28, 28), (4,), "must be three positive integers"),
        ((1, 28.0, 28), (4,), "must be three positive integers"),
        ((True, 28, 28), (4,), "must be three positive integers"),
        (784, (4,), "must be three positive integers.*Got 784 instead"),
        ("1, 28, 28", (4,), "must be three positive integers"),
        ((1, 28, 28), (), "'channels' parameter .* must name at least one stage.*MLP"),
        ((1, 28, 28), (4, 0), "'channels' parameter .* must be at least one positive integer"),
        ((1, 28, 28), 4, "'channels' parameter .* must be at least one positive integer"),
    ],
)
def test_wrong_arguments_are_named(kind, image_shape, channels, message):
    sizes = (784, 5) if kind is ConvolutionalEncoder else (5, 784)
    with pytest.raises(OptionError, match=message) as caught:
        kind(image_shape, channels).setup(*sizes, generator())
    assert kind.__name__ in str(caught.value)


def test_rows_of_another_length_are_refused():
    with pytest.raises(OptionError, match="Images of 3 x 5 x 7 are rows of 105 numbers. Got rows of 100"):
        ConvolutionalEncoder((3, 5, 7)).setup(100, 2, generator())
    with pytest.raises(OptionError, match="images of 5 x 7 gives a multiple of 35 numbers a row. Got 100"):
        ConvolutionalDecoder((3, 5, 7)).setup(2, 100, generator())
    with pytest.raises(OptionError, match="Did you mean 'gelu'"):
        ConvolutionalEncoder((3, 5, 7), activation="gelo").setup(105, 2, generator())


def test_multiply_adds_are_those_of_literal_loops():
    shape, channels = (2, 5, 8), (3, 4)
    encoder, decoder = ConvolutionalEncoder(shape, channels), ConvolutionalDecoder(shape, channels[::-1])
    encoder.setup(80, 7, torch.Generator().manual_seed(0))
    decoder.setup(7, 80, torch.Generator().manual_seed(0))
    stages = 2 * 3 * 16 * (3 * 4) + 3 * 4 * 16 * (2 * 2)  # kernels times the pixels of the halved images
    assert encoder.multiply_adds == decoder.multiply_adds == stages + 7 * 4 * (2 * 2)
