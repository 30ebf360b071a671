"""The machine itself: the same before there was any node on it and after they are gone."""

from __future__ import annotations

from local.real import footprint
from tests.datapath.story import Story


def test_the_machine_is_as_it_was(story: Story, before_the_ground: footprint.Footprint) -> None:
    _ = story.gone_again
    story.ground.remove()
    assert footprint.remains(before_the_ground) == []
