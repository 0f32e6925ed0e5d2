#!/usr/bin/env python3
"""Writes tests/golden/pickles/: one object saved by torch.save in every way that is read, and its tensors in pickles.safetensors.

protocolN.pth (zip, pickle protocol N), legacyN.pth (the format before PyTorch 1.6), lightning.ckpt (a checkpoint whose tensors lie under
"state_dict"), and the hostile ones that only a real pickler makes: system.pth (calls os.system), module.pth (a whole nn.Module),
array.pth (a NumPy array), deep.pth (containers nested too deep).
Run with a Python that has torch and safetensors:  python tests/golden/make_pickles.py
"""
import collections
import os
import pathlib

import numpy
import safetensors.torch
import torch

HERE = pathlib.Path(__file__).with_name("pickles")


def sample():
    g = torch.Generator().manual_seed(5)
    base = torch.randn(4, 6, generator=g)
    integers = torch.arange(-3, 9, dtype=torch.int64).reshape(3, 4)
    layer = torch.nn.Conv2d(2, 3, 3)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.randn(p.shape, generator=g))
    types = {}
    for name in ("float64", "float16", "bfloat16"):
        types[name] = base.to(getattr(torch, name))
    for name in ("int64", "int32", "int16", "int8"):
        types[name] = integers.to(getattr(torch, name))
    for name in ("uint8", "uint16", "uint32", "uint64", "bool"):
        types[name] = integers.abs().to(getattr(torch, name))
    tagged = torch.nn.Parameter(base.clone())
    tagged.note = "an attribute of its own"
    return collections.OrderedDict(
        layer=layer.state_dict(),
        types=types,
        views={
            "shared": base,
            "transposed": base.t(),
            "rows": base[1:3],
            "columns": base[:, 1:5:2],
            "expanded": base[:, :1].expand(4, 3),
            "channels_last": torch.randn(2, 3, 4, 5, generator=g).contiguous(memory_format=torch.channels_last),
            "scalar": base[2, 3],
            "empty": torch.zeros(0, 3),
        },
        parameters=[torch.nn.Parameter(base[0].clone()), tagged],
        optimizer=({"step": torch.tensor(7.0), "lr": 1e-3, "betas": (0.9, 0.999), "name": "adam", "none": None}, {0: torch.ones(2)}),
        plain={"big": 1 << 70, "negative": -5, "bytes": b"\x00\xff", "set": {1, 2}, "flag": True, "size": torch.Size([2, 3]),
               "dtype": torch.float16, "device": torch.device("cpu"), "count": collections.Counter("aab"),
               "default": collections.defaultdict(list), "numpy": numpy.float64(2.5), "word": "ünïcode", "range": range(3)},
    )


def flatten(value, name, out):
    if isinstance(value, torch.Tensor):
        out[name] = value.detach().contiguous().clone()
    elif isinstance(value, dict):
        for key, item in value.items():
            flatten(item, f"{name}.{key}" if name else str(key), out)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            flatten(item, f"{name}.{i}" if name else str(i), out)
    return out


class System:
    def __reduce__(self):
        return os.system, ("echo executed > executed.txt",)


def main():
    HERE.mkdir(exist_ok=True)
    obj = sample()
    for protocol in (2, 3, 4, 5):
        torch.save(obj, HERE / f"protocol{protocol}.pth", pickle_protocol=protocol)
    for protocol in (2, 4):
        torch.save(obj, HERE / f"legacy{protocol}.pth", pickle_protocol=protocol, _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(flatten(obj, "", {}), HERE / "pickles.safetensors")
    torch.save({"epoch": 3, "state_dict": obj["layer"], "optimizer_states": [{"state": {0: torch.ones(1)}}]}, HERE / "lightning.ckpt")
    torch.save({"a": torch.ones(2), "b": System()}, HERE / "system.pth")
    torch.save({"a": torch.ones(2), "b": System()}, HERE / "system_legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(torch.nn.Linear(2, 2), HERE / "module.pth")
    torch.save({"a": numpy.ones(3)}, HERE / "array.pth")
    deep = torch.ones(1)
    for _ in range(100):
        deep = [deep]
    torch.save(deep, HERE / "deep.pth")
    torch.save(torch.ones(1).to(torch.complex64), HERE / "complex.pth")
    torch.save(torch.sparse_coo_tensor([[0]], [1.0], (2,)), HERE / "sparse.pth")
    for path in sorted(HERE.iterdir()):
        print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
