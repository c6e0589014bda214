"""The loop of every PyTorch tutorial: a DataLoader of single rows, Adam, one number fetched a step."""

import torch
from networks import Network
from scaled import Scaled
from torch.utils.data import DataLoader, TensorDataset
from work import RATE

BATCH = 128


def fit(work, rows, epochs, mark, options):
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    data = Scaled(work, rows)
    loader = DataLoader(TensorDataset(torch.from_numpy(data.rows)), batch_size=work.batch or BATCH, shuffle=True)
    model = Network(work, rows.shape[1]).to(options.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    reconstruct = data.reconstruct(model.reconstruct)
    for _ in range(epochs):
        total = 0.0
        for (x,) in loader:
            optimizer.zero_grad()
            loss = model.loss(x.to(options.device))
            loss.backward()
            optimizer.step()
            total += loss.item()
            mark.seen(len(x), reconstruct)
        mark(reconstruct)
    return {}
