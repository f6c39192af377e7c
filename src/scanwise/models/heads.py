"""Heads on a backbone: pooling or self-attention, hidden layers, classifier."""

from torch import Tensor, nn

from scanwise.models.attention import SelfAttention


class HeadedBackbone(nn.Module):
    """Backbone without classifier, with a head of ours.

    Args:
        backbone: backbone with timm's two steps; its own pooling is used without attention.
        attention: attention over the feature map, or None.
        head: head from `dense_head`.
    """

    def __init__(self, backbone: nn.Module, attention: SelfAttention | None, head: nn.Sequential) -> None:
        super().__init__()
        self.backbone = backbone
        self.attention = attention
        self.head = head
        self.classifier = f"head.{len(head) - 1}"

    def forward_features(self, images: Tensor) -> Tensor:
        maps: Tensor = self.backbone.forward_features(images)  # type: ignore[operator]
        return maps

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        if self.attention is None:
            pooled: Tensor = self.backbone.forward_head(features, pre_logits=True)  # type: ignore[operator]
        else:
            pooled = self.attention(features)
        hidden: Tensor = self.head[:-1](pooled)
        return hidden if pre_logits else self.head[-1](hidden)

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))


def dense_head(features: int, hidden: tuple[int, ...], num_classes: int, dropout: float) -> nn.Sequential:
    """Linear, ReLU and dropout for each hidden width, then the classifier; without hidden layers, dropout and classifier.

    With one hidden layer its indices are those of the usual fine-tuning head: 0 and 3 are the linear layers.
    """
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(features, width), nn.ReLU(), nn.Dropout(dropout)]
        features = width
    if not hidden:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.Linear(features, num_classes) if num_classes else nn.Identity())
