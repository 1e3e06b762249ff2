"""What every pipeline must do. Inherit `PipelineContract` and give it the fixture."""

from __future__ import annotations

import copy
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tensor_optix.core.checkpoints.saved_state import read_state, write_state
from tests.scripted import CountingAgent

if TYPE_CHECKING:
    from tensor_optix.core.base_pipeline import BasePipeline


class PipelineContract:
    """A subclass provides `pipeline`, without an agent."""

    @pytest.fixture
    def pipeline(self) -> BasePipeline:
        raise NotImplementedError

    def test_windows_are_numbered_from_0_and_their_fields_have_one_length(self, pipeline):
        pipeline.set_agent(CountingAgent())
        pipeline.setup()
        for number, episode in enumerate(islice(pipeline.episodes(), 3)):
            assert episode.episode_id == number
            lengths = {len(episode.rewards), len(episode.terminated), len(episode.truncated)}
            assert lengths == {len(episode.observations)} == {len(episode.actions)}
            assert episode.episode_starts is None or episode.episode_starts[0] == 0
        pipeline.teardown()

    def test_two_windows_running_never_share_memory(self, pipeline):
        pipeline.set_agent(CountingAgent())
        pipeline.setup()
        source = pipeline.episodes()
        first, second = next(source), next(source)
        assert not np.shares_memory(first.observations, second.observations)
        pipeline.teardown()

    def test_windows_that_are_kept_stay_as_they_are(self, pipeline):
        pipeline.set_agent(CountingAgent())
        pipeline.setup()
        kept, copies = [], []
        for window in islice(pipeline.episodes(), 5):
            kept.append(window)
            copies.append(copy.deepcopy(window))
        for window, as_it_was in zip(kept, copies, strict=True):
            np.testing.assert_equal(vars(window), vars(as_it_was))
        pipeline.teardown()

    def test_it_can_be_set_up_again_after_teardown(self, pipeline):
        pipeline.set_agent(CountingAgent())
        for _ in range(2):
            pipeline.setup()
            assert next(iter(pipeline.episodes())).episode_id == 0
            pipeline.teardown()

    def test_a_restart_begins_fresh_episodes(self, pipeline):
        pipeline.set_agent(CountingAgent())
        pipeline.setup()
        first = np.array(next(iter(pipeline.episodes())).observations)
        pipeline.restart()
        again = next(iter(pipeline.episodes()))
        assert again.episode_id == 0
        assert np.shape(again.observations) == first.shape
        pipeline.teardown()

    def test_windows_are_numbered_on_from_a_state(self, pipeline):
        pipeline.set_agent(CountingAgent())
        pipeline.setup()
        list(islice(pipeline.episodes(), 2))
        state = copy.deepcopy(pipeline.state_dict())
        if state is not None:
            pipeline.restart()
            assert pipeline.load_state_dict(state) in (True, False)
            windows = list(islice(pipeline.episodes(), 2))
            assert [window.episode_id for window in windows] == [2, 3]
        pipeline.teardown()

    def test_a_state_stays_as_it_is_while_the_pipeline_goes_on(self, pipeline):
        pipeline.set_agent(CountingAgent())
        pipeline.setup()
        source = pipeline.episodes()
        next(source)
        state = pipeline.state_dict()
        as_it_was = copy.deepcopy(state)
        next(source)
        np.testing.assert_equal(state, as_it_was)
        pipeline.teardown()

    def test_a_state_can_be_written_and_read(self, pipeline, tmp_path):
        pipeline.set_agent(CountingAgent())
        pipeline.setup()
        next(pipeline.episodes())
        state = pipeline.state_dict()
        if state is not None:
            write_state(tmp_path / "pipeline", state)
            np.testing.assert_equal(read_state(tmp_path / "pipeline"), state)
        pipeline.teardown()

    def test_it_says_whether_it_is_live(self, pipeline):
        assert pipeline.is_live in (True, False)

    def test_a_time_limit_is_known_or_not(self, pipeline):
        assert pipeline.time_limit is None or pipeline.time_limit > 0
        pipeline.teardown()
