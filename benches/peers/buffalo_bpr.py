"""BPR by Buffalo (Kakao), set up as the other sides are: no biases, uniform negatives, positives rejected, plain SGD."""

import os
import time

import numpy as np


def prepare(train, folder):
    """Buffalo's own file of the matrix, made once."""
    from buffalo.data.mm import MatrixMarketOptions
    from buffalo.misc import log
    import buffalo.data

    log.set_log_level(log.WARN)
    options = MatrixMarketOptions().get_default_option()
    options.input.main = train
    options.data.path = os.path.join(folder, "buffalo.h5py")
    options.data.tmp_dir = folder
    options.data.pop("validation")
    data = buffalo.data.load(options)
    data.create()
    return data


def fit(data, threads, iterations, rate=0.05, reg=0.003):
    """A trained model and the seconds of its training alone."""
    from buffalo.algo.bpr import BPRMF
    from buffalo.algo.options import BPRMFOption

    options = BPRMFOption().get_default_option()
    options.update({"d": 64, "num_workers": threads, "num_iters": iterations, "use_bias": False, "verify_neg": True,
                    "sampling_power": 0.0, "lr": rate, "reg_u": reg, "reg_i": reg, "reg_j": reg,
                    "compute_loss_on_training": False, "random_seed": 1})
    model = BPRMF(options, data=data)
    model.initialize()
    begun = time.time()
    model.train()
    return model, time.time() - begun


def rank(model, train, k):
    """The `k` best items of each user, those of `train` left out."""
    ranked = {}
    for start in range(0, train.shape[0], 1000):
        users = np.arange(start, min(start + 1000, train.shape[0]))
        scores = model.P[users] @ model.Q.T
        block = train[users]
        scores[np.repeat(np.arange(len(users)), np.diff(block.indptr)), block.indices] = -np.inf
        best = np.argpartition(-scores, k, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
        ranked.update(zip(users.tolist(), np.take_along_axis(best, order, axis=1).tolist()))
    return ranked
