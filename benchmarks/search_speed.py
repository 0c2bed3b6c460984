import sys, time, numpy as np, torch
from mzprobe.config import SearchConfig
from mzprobe.networks.mlp import MLPNetwork
from mzprobe.networks.support import Support
from mzprobe.search.mcts import *
from mzprobe.search.models import LearnedModel

torch.set_num_threads(1)
g = torch.Generator().manual_seed(0)
net = MLPNetwork(observation_size=4, num_actions=2, support=Support(minimum=-10, maximum=10, atoms=21), generator=g)
with torch.no_grad():
    for p in net.parameters():
        p.uniform_(-0.3, 0.3, generator=g)
m = LearnedModel(net, num_actions=2, gamma=0.997)
rng = np.random.default_rng(0)
t0 = time.time()
search(m, np.zeros((2, 4), "f4"), config=SearchConfig(), generator=rng)
print("compile", time.time() - t0)
for B, N in ((64, 50), (256, 200), (1, 50)):
    obs = rng.normal(size=(B, 4)).astype("f4")
    for path in ("fused", "general"):
        r = np.random.default_rng(1)
        ts = []
        for _ in range(15 if path == "fused" else 4):
            t = time.perf_counter()
            res = search(m, obs, config=SearchConfig(simulations=N), generator=r, path=path)
            sample_actions(res.policy(1.0), r)
            ts.append(time.perf_counter() - t)
        print(B, N, path, f"{B * N / np.median(ts):.3g} sims/s")
    a = search(m, obs, config=SearchConfig(simulations=N), path="fused")
    b = search(m, obs, config=SearchConfig(simulations=N), path="general")
    print("equal visits", (a.visit_counts == b.visit_counts).all(), np.abs(a.root_value - b.root_value).max())
