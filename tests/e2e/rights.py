"""Who may do what, as the API server says."""

import json

from e2e.cluster.access import Api
from e2e.world import Document

Right = tuple[str, str]
"""A verb, and resources: "group/plural" or "group/plural/part"; the core group is empty."""


def allowed(cluster: Api, user: str, namespace: str, rights: set[Right]) -> set[Right]:
    """Those of `rights` that `user` has in a namespace."""
    asked = sorted(rights)
    reviews = {"apiVersion": "v1", "kind": "List", "items": [_review(user, namespace, right) for right in asked]}
    each = 'go-template={{.status.allowed}}{{" "}}'
    said = cluster.kubectl("create", "-o", each, "-f", "-", document=json.dumps(reviews)).split()
    return {right for right, answer in zip(asked, said, strict=True) if answer == "true"}


def _review(user: str, namespace: str, right: Right) -> Document:
    verb, resource = right
    group, plural, *part = resource.split("/")
    asked = {"namespace": namespace, "verb": verb, "group": group, "resource": plural, "subresource": "".join(part)}
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": asked},
    }
