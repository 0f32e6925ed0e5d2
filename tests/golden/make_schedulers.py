#!/usr/bin/env python3
"""Writes schedulers.safetensors and schedulers.json: what diffusers' schedulers make of the same noise with a model that is a formula.

    python3 tests/golden/make_schedulers.py        # needs torch, diffusers and scipy

Each case of schedulers.json has a scheduler's config (as text, as diffusers writes it), steps and rows; schedulers.safetensors has its states
after each step ("CASE.states", (steps,rows,12); of schedulers of several calls a step, after the last of them) and the times that the model
was told ("CASE.times"). The model is out = 0.3 x cos(t/100) + 0.2 sin(0.7 x + t/77); with a learned variance tanh(x + t/500) is behind it.
"x" is the initial unit noise, "noise" (64,2,12) what a stochastic scheduler draws, in order. tests/diffusion/test_schedulers.c runs the same."""

import json
import os
import struct
import warnings

import numpy as np
import torch

warnings.simplefilter("ignore")
import diffusers  # noqa: E402

diffusers.utils.logging.set_verbosity_error()
random = np.random.default_rng(0)
X = random.standard_normal((2, 12)).astype(np.float32)
NOISE = random.standard_normal((64, 2, 12)).astype(np.float32)
tensors, cases = {"x": X, "noise": NOISE}, []


class Draws:
    def __init__(self, rows):
        self.rows, self.next, self.dtype = rows, 0, torch.float32

    def __call__(self, shape=None, **kwargs):
        self.next += 1
        return torch.from_numpy(NOISE[self.next - 1, : self.rows].reshape(self.rows, 3, 2, 2).copy()).to(self.dtype)


def brownian(draws):
    """One path: the first call of a step draws both halves, the second asks for the whole."""

    class Sampler:
        def __init__(self, *args, **kwargs):
            self.first = True

        def __call__(self, sigma, sigma_next):
            if self.first:
                self.from_, self.mid, self.z = sigma, sigma_next, (draws(), draws())
                out = self.z[0]
            else:
                a, b = (self.from_ - self.mid), (self.mid - sigma_next)
                out = (a.sqrt() * self.z[0] + b.sqrt() * self.z[1]) / (a + b).sqrt()
            self.first = not self.first
            return out

    return Sampler


def model(x, t, learned):
    t = float(t)
    out = 0.3 * x * np.cos(t / 100) + 0.2 * torch.sin(0.7 * x + t / 77)
    return torch.cat([out, torch.tanh(x + t / 500)], dim=1) if learned else out


def run(cls, steps, rows=2, **config):
    scheduler = getattr(diffusers, cls).from_config({"_class_name": cls, **config})
    name = f"{len(cases):03d}"
    module = __import__(type(scheduler).__module__, fromlist=["x"])
    draws = Draws(rows)
    if hasattr(module, "randn_tensor"):
        module.randn_tensor = draws
    if hasattr(module, "BrownianTreeNoiseSampler"):
        module.BrownianTreeNoiseSampler = brownian(draws)
    full = all(case["class"] != cls for case in cases)  # the others are left to the defaults
    text = scheduler.to_json_string() if full else json.dumps({"_class_name": cls, **config})
    learned = str(scheduler.config.get("variance_type")).startswith("learned")
    x = torch.from_numpy(X[:rows].reshape(rows, 3, 2, 2).copy())
    scheduler.set_timesteps(steps)
    states, times = [], []
    if cls == "ScoreSdeVeScheduler":
        scheduler.set_sigmas(steps)
        x = x * scheduler.init_noise_sigma
        for i, t in enumerate(scheduler.timesteps):
            for _ in range(scheduler.config.correct_steps):
                times.append(float(scheduler.sigmas[i]))
                x = scheduler.step_correct(model(x, scheduler.sigmas[i], False), x).prev_sample
            times.append(float(scheduler.sigmas[i]))
            out = scheduler.step_pred(model(x, scheduler.sigmas[i], False), t, x)
            x = out.prev_sample
            states.append(x if i < steps - 1 else out.prev_sample_mean)
    else:
        x = x * getattr(scheduler, "init_noise_sigma", 1.0)
        if cls == "SASolverScheduler":  # its weights cancel to 1e-5 in float32; the same formulas in float64 then
            x, scheduler.sigmas, draws.dtype = x.double(), scheduler.sigmas.double(), torch.float64
        for t in scheduler.timesteps:
            times.append(float(t))
            inner = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
            out = model(inner, t, learned)
            x = scheduler.step(out[:, :3] if learned and cls != "DDPMScheduler" else out, t, x).prev_sample
            states.append(x)
        if cls == "PNDMScheduler":
            keep = range(1, len(states)) if config.get("skip_prk_steps") else [3, 7, 11] + list(range(12, len(states)))
            states = [states[i] for i in keep]
        elif getattr(scheduler, "order", 1) == 2:
            states = states[1::2] + states[-1:]
    states = np.stack([s.reshape(rows, 12).numpy() for s in states]).astype(np.float32)
    assert np.isfinite(states).all(), (cls, steps, config)
    tensors[name + ".states"], tensors[name + ".times"] = states, np.array(times, dtype=np.float32)
    cases.append({"name": name, "class": cls, "title": f"{cls} steps={steps} {config}", "config": text, "steps": steps, "rows": rows})


def sweep(cls, *options, steps=(10, 7)):
    for i, option in enumerate(options):
        run(cls, steps[i % len(steps)], **option)


V, S, F = ({"prediction_type": p} for p in ("v_prediction", "sample", "flow_prediction"))
SPACINGS = [{"timestep_spacing": s} for s in ("linspace", "leading", "trailing")]
OFFSET = {"timestep_spacing": "leading", "steps_offset": 1}
LEVELS = [{f"use_{s}_sigmas": True} for s in ("karras", "exponential", "beta")]
LATENT = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
COSINE = {"beta_schedule": "squaredcos_cap_v2"}
ZERO = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", **V}
DYNAMIC = {"thresholding": True, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 1.5}
TABLE = {"trained_betas": [0.01 + 0.002 * i for i in range(50)], "num_train_timesteps": 50}

sweep("DDPMScheduler", {}, {"clip_sample": False}, V, S, *SPACINGS, OFFSET, DYNAMIC, LATENT, COSINE, TABLE, ZERO, {"beta_schedule": "sigmoid"},
      {"beta_schedule": "laplace", "clip_sample_range": 2.0}, *[{"variance_type": v} for v in ("fixed_small_log", "fixed_large", "learned_range")],
      {"variance_type": "learned_range", "clip_sample": False, **V}, {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"})
sweep("DDIMScheduler", {}, {"clip_sample": False}, V, S, *SPACINGS, OFFSET, DYNAMIC, {**LATENT, "set_alpha_to_one": False, "clip_sample": False},
      COSINE, TABLE, ZERO, {**ZERO, "clip_sample": False}, {"num_train_timesteps": 100, "clip_sample_range": 0.5})
sweep("DDIMInverseScheduler", {}, {"clip_sample": False, **V}, {"timestep_spacing": "trailing", "set_alpha_to_one": False}, {"set_alpha_to_one": False, **S})
sweep("PNDMScheduler", {}, {"skip_prk_steps": True}, V, {"skip_prk_steps": True, **V}, {**LATENT, "skip_prk_steps": True, **OFFSET},
      {"timestep_spacing": "trailing"}, {"timestep_spacing": "linspace", "skip_prk_steps": True, "set_alpha_to_one": True}, {**LATENT, "set_alpha_to_one": True},
      {"num_train_timesteps": 100, **COSINE})
sweep("LMSDiscreteScheduler", {}, V, S, *SPACINGS, OFFSET, *LEVELS, LATENT, COSINE)
sweep("EulerDiscreteScheduler", {}, V, S, *SPACINGS, OFFSET, *LEVELS, {**LATENT, **LEVELS[0]}, COSINE, ZERO, {"interpolation_type": "log_linear"},
      {"final_sigmas_type": "sigma_min"}, {"sigma_min": 0.05, "sigma_max": 20.0, **LEVELS[0]}, {"sigma_min": 0.1, "sigma_max": 50.0, **LEVELS[2]},
      {"timestep_type": "continuous", **V}, {"timestep_type": "continuous", "interpolation_type": "log_linear", **V}, {"timestep_type": "continuous"},
      {"interpolation_type": "log_linear", **LEVELS[1]}, TABLE)
sweep("EulerAncestralDiscreteScheduler", {}, V, *SPACINGS, OFFSET, LATENT, ZERO)
sweep("HeunDiscreteScheduler", {}, V, S, *SPACINGS, OFFSET, *LEVELS, {"clip_sample": True}, {"beta_schedule": "exp"}, {"clip_sample": True, "clip_sample_range": 0.7, **V})
sweep("KDPM2DiscreteScheduler", {}, V, *SPACINGS, OFFSET, *LEVELS)
sweep("KDPM2AncestralDiscreteScheduler", {}, V, *SPACINGS, OFFSET, *LEVELS)
for algorithm in ("dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver"):
    for order in (1, 2, 3):
        if algorithm == "sde-dpmsolver" and order == 3:
            continue
        final = {} if algorithm.endswith("++") else {"final_sigmas_type": "sigma_min"}
        for kind in ("midpoint", "heun"):
            run("DPMSolverMultistepScheduler", 10 if kind == "heun" else 17, algorithm_type=algorithm, solver_order=order, solver_type=kind, **final)
            if algorithm != "sde-dpmsolver":
                run("DPMSolverSinglestepScheduler", 10 if kind == "heun" else 9, algorithm_type=algorithm, solver_order=order, solver_type=kind, **final)
NOISY = {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}
sweep("DPMSolverMultistepScheduler", V, S, *SPACINGS, OFFSET, *LEVELS, {"use_lu_lambdas": True}, DYNAMIC, {**DYNAMIC, **NOISY}, {**V, **NOISY},
      {**S, **NOISY}, ZERO, {"euler_at_final": True, "final_sigmas_type": "sigma_min"}, {"lower_order_final": False, "solver_order": 3},
      {"lower_order_final": False, "final_sigmas_type": "sigma_min"}, {"lambda_min_clipped": -3.0}, {"lambda_min_clipped": -3.0, **SPACINGS[2]}, {**COSINE, "lambda_min_clipped": -5.1},
      {"variance_type": "learned_range"}, {"use_flow_sigmas": True, "flow_shift": 3.0, **F}, {"use_flow_sigmas": True, **F, "final_sigmas_type": "sigma_min"}, {"use_flow_sigmas": True, **S},
      {**LATENT, **LEVELS[0], "solver_order": 3}, TABLE)
sweep("DPMSolverSinglestepScheduler", V, S, *LEVELS, DYNAMIC, {"solver_order": 3}, {"solver_order": 3, "lower_order_final": True}, {"lambda_min_clipped": -3.0},
      {**V, **NOISY}, {"use_flow_sigmas": True, "flow_shift": 2.0, **F}, {"final_sigmas_type": "sigma_min", "lower_order_final": True}, {"variance_type": "learned"})
for n in (1, 2, 3, 4, 5, 6):
    run("DPMSolverSinglestepScheduler", n, solver_order=3 if n > 2 else 2, final_sigmas_type="sigma_min")
    run("DPMSolverMultistepScheduler", n, solver_order=3)
    run("UniPCMultistepScheduler", n, solver_order=3)
sweep("DPMSolverSDEScheduler", {}, V, *SPACINGS, *LEVELS)
sweep("UniPCMultistepScheduler", {}, {"solver_type": "bh1", "final_sigmas_type": "sigma_min"}, V, S, {"solver_order": 3}, {"solver_order": 1},
      {"predict_x0": False, "final_sigmas_type": "sigma_min"}, {"predict_x0": False, "final_sigmas_type": "sigma_min", "solver_order": 3, **V}, *SPACINGS, OFFSET, *LEVELS, DYNAMIC,
      {"disable_corrector": [0, 1, 3]}, {"lower_order_final": False, "final_sigmas_type": "sigma_min"}, {"final_sigmas_type": "sigma_min", **LEVELS[0]}, ZERO,
      {"sigma_min": 0.05, "sigma_max": 20.0, **LEVELS[0]}, {"use_flow_sigmas": True, "flow_shift": 3.0, **F}, {"use_flow_sigmas": True, "shift_terminal": 0.1, **F},
      {"use_flow_sigmas": True, "final_sigmas_type": "sigma_min", **F}, {"use_flow_sigmas": True, **F, **LEVELS[0]}, {**LATENT, "solver_order": 2})
sweep("DEISMultistepScheduler", {}, {"solver_order": 3}, {"solver_order": 1}, V, S, *SPACINGS, OFFSET, *LEVELS, DYNAMIC, {"lower_order_final": False, "solver_order": 3},
      {"use_flow_sigmas": True, "flow_shift": 3.0, **F}, steps=(10, 17))
sweep("IPNDMScheduler", {}, {}, {"trained_betas": [1.0, 0.8, 0.7, 0.5, 0.2, 0.1, 0.05, 0.01]}, steps=(10, 7, 7))
sweep("SASolverScheduler", {}, {"predictor_order": 3, "corrector_order": 4}, {"predictor_order": 1, "corrector_order": 1}, {"predictor_order": 3, "corrector_order": 2}, V, S,
      {"algorithm_type": "noise_prediction"}, {"algorithm_type": "noise_prediction", "predictor_order": 3, "corrector_order": 3}, *SPACINGS, *LEVELS, DYNAMIC,
      {"lower_order_final": False}, {"lambda_min_clipped": -3.0}, {"variance_type": "learned_range"}, {"use_flow_sigmas": True, **F})
sweep("EDMEulerScheduler", {}, {"sigma_schedule": "exponential"}, V, {"final_sigmas_type": "sigma_min", "sigma_data": 1.0}, {"rho": 3.0, "sigma_min": 0.01, "sigma_max": 10.0})
sweep("EDMDPMSolverMultistepScheduler", {}, {"solver_order": 3}, {"solver_type": "heun"}, V, DYNAMIC, {"algorithm_type": "sde-dpmsolver++"},
      {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun", "final_sigmas_type": "sigma_min"}, {"sigma_schedule": "exponential", "euler_at_final": True}, {"solver_order": 1}, steps=(10, 17))
sweep("FlowMatchEulerDiscreteScheduler", {}, {"shift": 3.0}, *LEVELS, {"shift_terminal": 0.05}, {"invert_sigmas": True}, {"stochastic_sampling": True, "shift": 2.0})
sweep("FlowMatchHeunDiscreteScheduler", {}, {"shift": 3.0})
for n in (10, 7):
    run("ScoreSdeVeScheduler", n, rows=1, sigma_max=30.0, correct_steps=n // 5)
for name in ("LCMScheduler", "TCDScheduler"):
    sweep(name, {}, V, S, {"original_inference_steps": 30, "timestep_scaling": 3.0}, {"clip_sample": True, "clip_sample_range": 0.6}, DYNAMIC, COSINE,
          {"num_train_timesteps": 200, "original_inference_steps": 100, "beta_schedule": "linear"}, ZERO, steps=(4, 7))
    run(name, 1)

here = os.path.dirname(os.path.abspath(__file__))
header, offset = {}, 0
for key in sorted(tensors):
    size = tensors[key].nbytes
    header[key] = {"dtype": "F32", "shape": list(tensors[key].shape), "data_offsets": [offset, offset + size]}
    offset += size
text = json.dumps(header, separators=(",", ":")).encode()
text += b" " * (-len(text) % 8)
with open(os.path.join(here, "schedulers.safetensors"), "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text)
    for key in sorted(tensors):
        file.write(np.ascontiguousarray(tensors[key]).tobytes())
with open(os.path.join(here, "schedulers.json"), "w") as file:
    json.dump(cases, file, indent=0)
    file.write("\n")
print(len(cases), "cases")
