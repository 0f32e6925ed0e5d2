"""elbo's random numbers in NumPy: Philox4x32-10 [Salmon11], counter (element / 4, sample, stream), key the seed, as src/core/philox.h has it.

A draw of training is a function of (seed, stream, sample, element) alone, so another program can be given the very same times, noise and
order of the data.
"""
import numpy as np

LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)


def stream_of(name):
    """FNV-1a, 32 bits."""
    h = 2166136261
    for byte in name.encode():
        h = (h ^ byte) * 16777619 & 0xFFFFFFFF
    return h


def words(seed, stream, sample, block):
    """Four uint64 arrays that hold 32 bits each; sample and block are whole numbers or arrays of them, broadcast."""
    sample, block = np.broadcast_arrays(np.asarray(sample, np.uint64), np.asarray(block, np.uint64))
    c = [block & LOW, sample & LOW, sample >> HALF, np.full(sample.shape, stream, np.uint64)]
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [p1 >> HALF ^ c[1] ^ np.uint64(k0), p1 & LOW, p0 >> HALF ^ c[3] ^ np.uint64(k1), p0 & LOW]
        k0, k1 = k0 + 0x9E3779B9 & 0xFFFFFFFF, k1 + 0xBB67AE85 & 0xFFFFFFFF
    return c


def uniform(bits):
    """[0,1), 24 bits"""
    return (bits >> np.uint64(8)).astype(np.float64) * 2.0**-24


def blocks(seed, name, samples, shape):
    """The words of every four elements of samples of a shape."""
    return words(seed, stream_of(name), np.asarray(samples)[:, None], np.arange((int(np.prod(shape)) + 3) // 4)[None, :])


def elements(lanes, samples, shape):
    """(len(samples),*shape) of four arrays with an element of every block each."""
    return np.stack(lanes, -1).reshape(len(samples), -1)[:, :int(np.prod(shape))].reshape(len(samples), *shape).astype(np.float32)


def uniforms(seed, name, samples, shape):
    return elements([uniform(w) for w in blocks(seed, name, samples, shape)], samples, shape)


def normals(seed, name, samples, shape):
    """Standard normals, by Box and Muller [Box58]."""
    w, pairs = blocks(seed, name, samples, shape), []
    for a, b in (w[0], w[1]), (w[2], w[3]):
        radius, angle = np.sqrt(-2 * np.log(uniform(a) + 2.0**-24)), 2 * np.pi * uniform(b)
        pairs += [radius * np.cos(angle), radius * np.sin(angle)]
    return elements(pairs, samples, shape)


def permutation(seed, stream, n):
    """Fisher and Yates, from the end."""
    w = words(seed, stream, np.arange(n), 0)
    out = list(range(n))
    bits = (w[1] << HALF | w[0]).tolist()
    for i in range(n - 1, 0, -1):
        j = bits[i] * (i + 1) >> 64
        out[i], out[j] = out[j], out[i]
    return np.array(out)


def training_order(seed, n, count):
    """Which of n examples the loader gives at positions 0..count-1 of a training stream: an epoch after another, each shuffled."""
    stream = stream_of("epoch")
    epochs = [permutation(seed, stream + e & 0xFFFFFFFF, n) for e in range(-(-count // n))]
    return np.concatenate(epochs)[:count]


def training_times(seed, samples, steps):
    """Indices 0..steps-1 of a discrete process, as `objective.time: uniform` draws them."""
    return (uniform(words(seed, stream_of("objective.time"), np.asarray(samples), 0)[0]) * steps).astype(np.int64)
