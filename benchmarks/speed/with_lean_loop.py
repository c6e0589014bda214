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
    device = torch.device(options.device)
    x = torch.from_numpy(data.rows).to(device)
    model = Network(work, rows.shape[1]).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    cast = torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bfloat16")
    reconstruct = data.reconstruct(model.reconstruct)
    for _ in range(epochs):
        for batch in torch.randperm(len(x), device=device).split(work.batch or BATCH):
            rows_now = x.index_select(0, batch)
            optimizer.zero_grad()
            with cast:
                loss = model.loss(rows_now)
            loss.backward()
            optimizer.step()
            mark.seen(len(batch), reconstruct)
        mark(reconstruct)
    return {"precision": options.precision}
