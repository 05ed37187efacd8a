"""One of two processes: each metric sees every second image. python reduce_worker.py FOLDER RANK"""

import json
import sys
from pathlib import Path

import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parent))
from test_metrics import samples

folder, rank = Path(sys.argv[1]), int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
results = {}
for name, (metric, arguments) in samples().items():
    metric.update(*(argument[rank::2] for argument in arguments))
    estimate, value = metric.estimate(), metric.compute().item()
    own = metric.moments[0] if hasattr(metric, "moments") else metric.images
    results[name] = {"estimate": estimate, "value": value, "own": int(own)}
(folder / f"{rank}.json").write_text(json.dumps(results))
dist.barrier()
dist.destroy_process_group()
