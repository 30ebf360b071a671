"""Keys that a values.yaml has in comments only, told apart from prose."""

from __future__ import annotations

from textwrap import dedent

import yaml

from kube_proxy_replacement.chart.comments import commented_keys


def found(text: str) -> dict[str, bool]:
    text = dedent(text)
    return {".".join(key.path): key.free for key in commented_keys(text, yaml.safe_load(text) or {})}


def test_beside_and_below_live_keys() -> None:
    assert found(
        """
        # -- at the top
        # devices: ""
        #sessionAffinity: false
        loadBalancer:
          # -- algorithm
          # algorithm: random

          # mode: snat
          l7:
            backend: disabled
            # -- deeper
            # ports: []
          # after: 1
        securityContext:
          # runAsUser: 0
          privileged: false
        # last:
        """
    ) == {
        "devices": False,
        "sessionAffinity": False,
        "loadBalancer.algorithm": False,
        "loadBalancer.mode": False,
        "loadBalancer.l7.ports": True,
        "loadBalancer.after": False,
        "securityContext.runAsUser": False,
        "last": False,
    }


def test_maps_in_comments() -> None:
    assert found(
        """
        # logOptions:
        #   format: json
        #   nested:
        #     deeper: {}
        etcd:
          enabled: false
          # ssl:
          #   on: true
        """
    ) == {
        "logOptions": False,
        "logOptions.format": False,
        "logOptions.nested": False,
        "logOptions.nested.deeper": True,
        "etcd.ssl": False,
        "etcd.ssl.on": False,
    }


def test_examples_for_empty_maps() -> None:
    assert found(
        """
        resources: {}
        #   limits:
        #     cpu: 4000m
        extraConfig: {}
        #  my-config: "1234"
        #  other: |-
        #    text: 1
        issuer:
        #   name: x
        """
    ) == {
        "resources.limits": False,
        "resources.limits.cpu": False,
        "extraConfig.my-config": False,
        "extraConfig.other": True,
        "extraConfig.other.text": False,
        "issuer.name": False,
    }


def test_examples_that_show_the_way_from_further_up() -> None:
    assert (
        found(
            """
        redact:
          enabled: false
          http:
            # -- Example:
            #
            #   redact:
            #     enabled: true
            #     http:
            #       urlQuery: true
            urlQuery: false
          # Example:
          #   on: 1
          last: 1
        """
        )
        == {}
    )


def test_prose_annotations_and_lists() -> None:
    assert found(
        """
        # @schema
        # type: [null, string]
        # enum: ["a", "b"]
        # @schema
        # -- For example: '1.7', '1.8'
        # ref: https://kubernetes.io/docs
        # See: https://example.com/x
        # WARNING: Use with care!
        # Note: this
        # nodes: Count of nodes at which to apply the limit.
        # @default -- something: else
        # - helm: This method uses Helm.
        level: 1
        imagePullSecrets: []
        # - name: "image-pull-secret"
        #   key: value
        tolerations:
          - operator: Exists
            # - key: "key"
            #   effect: "NoSchedule"
            # value: x
        script: |
          # inside: text
          key:
            # deeper: text
        # real: "yes"  # really
        """
    ) == {"real": False}


def test_nothing() -> None:
    assert found("") == {}
    assert found("# only: prose in here\n") == {}
