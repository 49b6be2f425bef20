"""The recipe of the trained patch classifier, whose backbone R-CNN, Fast R-CNN and Faster R-CNN start from.

    python data/weights/patch_classifier.py [--output DIR] [--epochs N] [--checkpoint FILE]

Patches of phantom films: no lesion, benign, malignant; about nine minutes on two CPU cores.

It trains in bf16, as the weights of the card did, and not in what suits the device: the precision is part of the
recipe. CPUs with AMX or AVX-512 BF16 and GPUs from Ampere on compute in it, and the minutes are those of such a CPU;
others imitate it, which takes longer than fp32.
"""

import argparse
from pathlib import Path

import torch
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader, Dataset

from labkit.datasets.phantoms import mammograms
from labkit.detection.patches import PatchClassifier, film_patches
from labkit.device import pick_device, seed_everything
from labkit.training import fit
from labkit.weights import FOLDER, save_weights

SEED, FILMS, HELD_OUT, EPOCHS, BATCH, RATE = 0, 16000, 1500, 14, 64, 3e-3
SIZE, SHIFT = 48, 8  # pixels; a patch is moved by up to SHIFT each way
TRAIN_FILMS, TEST_FILMS = 3, 1  # seeds: other patients


class Moved(Dataset):
    """Batches of patches, each batch shifted, turned over and transposed at random: tissue has no up or down."""

    def __init__(self, patches, labels):
        self.patches, self.labels = (patches * 255).round().byte(), labels  # films have 8 bits

    def __len__(self):
        return len(self.patches)

    def __getitems__(self, rows):
        x, y = torch.randint(2 * SHIFT + 1, (2,)).tolist()
        patches = self.patches[rows][:, :, y : y + SIZE, x : x + SIZE].float() / 255
        left, up, turn = (torch.rand(3) < 0.5).tolist()
        patches = patches.flip([axis for axis, on in ((3, left), (2, up)) if on])
        return (patches.transpose(2, 3) if turn else patches), self.labels[rows]


def held_out():
    """Patches of films of other patients, not moved, and their labels."""
    return film_patches(mammograms(HELD_OUT, seed=TEST_FILMS), size=SIZE, generator=torch.Generator().manual_seed(1))


def train(epochs: int = EPOCHS, checkpoint: Path | None = None) -> PatchClassifier:
    """The trained classifier."""
    seed_everything(SEED)
    films = mammograms(FILMS, seed=TRAIN_FILMS)
    patches = film_patches(films, size=SIZE + 2 * SHIFT, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(Moved(*patches), BATCH, shuffle=True, drop_last=True, collate_fn=lambda batch: batch)
    model = PatchClassifier().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=5e-2)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * len(loader), pct_start=0.15)
    loss = torch.nn.functional.cross_entropy
    fit(
        model,
        loader,
        epochs=epochs,
        loss=loss,
        optimizer=optimizer,
        scheduler=scheduler,
        device=pick_device(),
        precision="bf16",
        checkpoint=checkpoint,
    )
    return model.to(memory_format=torch.contiguous_format)


@torch.no_grad()
def figures(model, patches, labels) -> dict[str, float]:
    """Accuracy over three classes; AUC of lesion against none; AUC of malignant against benign, lesions only."""
    device = next(model.parameters()).device
    scores = torch.cat([model.eval()(part.to(device)).softmax(1).cpu() for part in patches.split(200)])
    lesion = labels > 0
    malignant = (scores[:, 2] / (scores[:, 1] + scores[:, 2]))[lesion]
    return {
        "accuracy": round((scores.argmax(1) == labels).float().mean().item(), 4),
        "lesion AUC": round(float(roc_auc_score(lesion, 1 - scores[:, 0])), 4),
        "malignant AUC": round(float(roc_auc_score(labels[lesion] == 2, malignant)), 4),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder for the weights and their card")
    parser.add_argument("--checkpoint", type=Path, help="file to go on from after an interruption")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args()
    model, test = train(options.epochs, options.checkpoint), held_out()
    card = {"seed": SEED, "epochs": options.epochs, "films": FILMS}
    card["held out"] = {"films": HELD_OUT, "patches": len(test[1]), **figures(model, *test)}
    print(save_weights(model, "patch_classifier", folder=options.output.expanduser(), **card), card["held out"])
