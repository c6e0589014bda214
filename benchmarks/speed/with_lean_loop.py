"""A loop with nothing to spare: rows in one tensor, a gather a batch, fused Adam, no number fetched before the end."""

import torch
from networks import Network
from scaled import Scaled
from work import RATE

BATCH = 128


def fit(work, rows, epochs, mark, options):
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    data = Scaled(work, rows)
    x = torch.from_numpy(data.rows)
    model = Network(work, rows.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    cast = torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bfloat16")
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(work.batch or BATCH):
            rows_now = x.index_select(0, batch)
            optimizer.zero_grad()
            with cast:
                loss = model.loss(rows_now)
            loss.backward()
            optimizer.step()
        mark(data.reconstruct(model.reconstruct))
    return {"precision": options.precision}
