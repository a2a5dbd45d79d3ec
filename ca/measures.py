"""What processes count while they work, in their own memory: numbers without a name of a person, a certificate or a secret.

Owns the registry, and what ca itself counts. quicklime_site counts the rest, adds up all processes and shows the sum. Must cost
nothing worth measuring, and wait for nobody.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

registry = CollectorRegistry()
KEY_FAULTS = Counter(
    "quicklime_key_faults", "How often a key of the CA was wanted and could not be used, by key.", ["key"], registry=registry
)
