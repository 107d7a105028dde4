"""Minutes of real pretraining: the loss curve, tokens a second, held-out losses."""

import math

from measuring import FAIL, PASS, SKIP, Options, Outcome, run_stage
from training import Run, train

CURVES = ("generator_loss", "discriminator_loss")
# Kept for start, validation and the picture, of what the stage may take.
RESERVED_SECONDS, TOY_UPDATES, HIGHEST_RATE = 25, 40, "1e-3"
BARS, COLUMNS = "▁▂▃▄▅▆▇█", 60


def bars(values: list[float]) -> str:
    """A curve as one line of text."""
    step = max(1, len(values) // COLUMNS)
    thinned = values[::step]
    low, high = min(thinned), max(thinned)
    places = [int((value - low) / ((high - low) or 1) * (len(BARS) - 1)) for value in thinned]
    return "".join(BARS[place] for place in places)


def draw(run: Run, options: Options) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.5), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(CURVES)), CURVES, strict=True):
        axes.plot([u["num_updates"] for u in run.updates], [u[name] for u in run.updates])
        axes.set(title=name.replace("_", " "), xlabel="update", ylabel="nats")
    figure.savefig(options.out / "pretraining.png", dpi=120)


def stage(options: Options) -> Outcome:
    if options.data is None:
        return Outcome(SKIP, "no --data")
    minutes = max(5.0, options.seconds - RESERVED_SECONDS) / 60
    length = (
        ("--max-update", str(TOY_UPDATES), "--warmup-updates", "10", "--log-interval", "4")
        if options.toy
        # The rate falls as for a run of an hour: here it is the time that ends it.
        else ("--max-update", "50000", "--warmup-updates", "300", "--log-interval", "20")
    )
    words = (
        *("--stop-time-hours", str(minutes / 60), "--validate-interval", "100000", "--no-save"),
        *("--lr", HIGHEST_RATE, "--autocast-dtype", "bfloat16", *length),
    )
    graphed = train(options, *words, "--cuda-graphs") if options.device.type == "cuda" else None
    mistake = graphed.error if graphed else None
    run = train(options, *words) if graphed is None or mistake else graphed
    if run.error or len(run.updates) < 2:
        return Outcome(FAIL, run.error or "nothing was logged")
    for name in CURVES:
        values = [update[name] for update in run.updates]
        print(f"{name}: {values[0]:.3f} {bars(values)} {values[-1]:.3f}")
    draw(run, options)
    first, last = run.updates[0], run.updates[-1]
    held_out = run.validations[-1] if run.validations else {}
    speeds = sorted(update["wps"] for update in run.updates[1:] if "wps" in update)
    speed = speeds[len(speeds) // 2] if speeds else math.nan
    falls = all(math.isfinite(update["loss"]) for update in run.updates)
    falls = falls and last["generator_loss"] < first["generator_loss"]
    line = f"with --cuda-graphs: {mistake}; without it, " if mistake else ""
    line += (
        f"{last['num_updates']:,.0f} updates, {speed:,.0f} tokens a second; generator loss "
        f"{first['generator_loss']:.3f} -> {last['generator_loss']:.3f}, held-out "
        f"{held_out.get('valid_generator_loss', math.nan):.3f}; AUC there "
        f"{held_out.get('valid_discriminator_auc', math.nan):.3f}"
    )
    figures = {
        "tokens a second": speed,
        "held-out": held_out,
        "curve": [
            {name: update[name] for name in ("num_updates", "loss", *CURVES)}
            for update in run.updates
        ],
    }
    return Outcome(PASS if falls and not mistake else FAIL, line, figures)


if __name__ == "__main__":
    run_stage(__doc__, stage)
