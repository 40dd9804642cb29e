"""CoOp and CoCoOp as a straightforward program trains them: the peers of the library's own training loop.

Every step encodes its pictures anew and runs the text tower over the whole context, padding included; CoCoOp takes its
pictures one by one, because each has a context of its own. One seed at a time, with ``torch.optim``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.prompts.backbone import Backbone
from lib.prompts.learners import META


class Plain(nn.Module):
    """Context tokens in front of the class names; ``conditional`` adds CoCoOp's network."""

    def __init__(self, backbone: Backbone, names: tuple[str, ...], tokens: int, conditional: bool) -> None:
        super().__init__()
        self.clip = backbone.model
        self.mean, self.std = backbone._mean, backbone._std
        width, embed = backbone.text_width, backbone.embed_dim
        self.context = nn.Parameter(torch.randn(tokens, width) * 0.02)
        self.network = (
            nn.Sequential(nn.Linear(embed, embed // META), nn.ReLU(), nn.Linear(embed // META, width))
            if conditional
            else None
        )
        self.ids = backbone.tokenizer(["a " * tokens + name + backbone.full_stop for name in names])
        with torch.no_grad():
            self.words = self.clip.token_embedding(self.ids)

    def classifier(self, context: Tensor) -> Tensor:
        """Text features [K, embed] for one context [M, d]."""
        count, clip = len(self.context), self.clip
        rows = context.expand(len(self.ids), -1, -1)
        x = torch.cat([self.words[:, :1], rows, self.words[:, 1 + count :]], 1)
        x = clip.transformer(x + clip.positional_embedding, attn_mask=clip.attn_mask)
        x = clip.ln_final(x)[torch.arange(len(x)), self.ids.argmax(1)]
        return F.normalize(x @ clip.text_projection, dim=-1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, K]."""
        with torch.no_grad():
            features = F.normalize(self.clip.encode_image((images - self.mean) / self.std), dim=-1)
        scale = self.clip.logit_scale.exp()
        if self.network is None:
            return scale * features @ self.classifier(self.context).T
        shifts = self.network(features)
        pairs = zip(features, shifts, strict=True)
        return scale * torch.stack([feature @ self.classifier(self.context + shift).T for feature, shift in pairs])


def train(
    backbone: Backbone,
    names: tuple[str, ...],
    images: Tensor,
    labels: Tensor,
    steps: int,
    batch: int,
    conditional: bool,
) -> list[float]:
    """Trains one seed by SGD; the losses, step by step."""
    torch.manual_seed(0)
    model = Plain(backbone, names, 4, conditional)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=0.0035, momentum=0.9, weight_decay=5e-4)
    losses = []
    for _ in range(steps):
        index = torch.randint(len(labels), (batch,))
        loss = F.cross_entropy(model(images[index]), labels[index])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses
