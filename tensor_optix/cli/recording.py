"""Pictures of a policy at play: a recipe comes in, an environment that draws or films its episodes goes out.

An EnvPool draws nothing: whoever stepped the training, one of Gymnasium's environments is filmed.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.envs.registration import load_env_creator
from gymnasium.error import DependencyNotInstalled
from gymnasium.wrappers import RecordVideo

from tensor_optix.cli.errors import CommandError
from tensor_optix.core.environment_ids import gymnasium_spec
from tensor_optix.pipeline.vector_env import make_vector_env

if TYPE_CHECKING:
    import gymnasium

    from tensor_optix.core.environment_recipe import EnvironmentRecipe
    from tensor_optix.pipeline.vector_env import VectorEnv

FILM = "rgb_array"
"""Gymnasium's mode of an environment that returns its pictures."""
GIF_FPS = 25
"""Viewers show what is faster at a speed of their own."""


class Films:
    """The films of one evaluation.

    Args:
        directory: Takes them.
        name: What their names begin with.
        is_gif: Whether they are GIFs, else MP4s.
    """

    def __init__(self, directory: Path, name: str, is_gif: bool) -> None:
        self.directory = directory.expanduser()
        self.name = name
        self.paths: list[Path] = []
        """Those that were written."""
        self._kind = GifRecorder if is_gif else EpisodeRecorder

    def around(self, env: gymnasium.Env[Any, Any]) -> EpisodeRecorder:
        """Return an environment that films each of its episodes.

        Raises:
            ImportError: If what writes films is not installed.
        """
        with warnings.catch_warnings():
            # That the directory is there already: only films of the same name are replaced.
            warnings.simplefilter("ignore")
            try:
                return self._kind(env, self.directory, self.name, self.paths)
            except DependencyNotInstalled as error:
                raise ImportError(
                    "films need MoviePy: pip install 'tensor-optix[video]'"
                ) from error


class EpisodeRecorder(RecordVideo[Any, Any]):
    """Films every episode that was played; one that was only begun is none."""

    ending = "mp4"

    def __init__(
        self, env: gymnasium.Env[Any, Any], directory: Path, name: str, paths: list[Path]
    ) -> None:
        super().__init__(env, str(directory), lambda episode: True, name_prefix=name)
        self._paths = paths

    def stop_recording(self) -> None:
        """Write the film, if something was played."""
        if len(self.recorded_frames) < 2:
            self.recording, self.recorded_frames = False, []
            return
        path = Path(self.video_folder) / f"{self._video_name}.{self.ending}"
        self.write(path)
        self._paths.append(path)

    def write(self, path: Path) -> None:
        """Write the frames to a file, and forget them."""
        super().stop_recording()  # type: ignore[no-untyped-call]


class GifRecorder(EpisodeRecorder):
    """Films them as GIFs, which are shown everywhere."""

    ending = "gif"

    def write(self, path: Path) -> None:
        """Write so many of the frames as viewers show, at the speed of the environment."""
        from PIL import Image

        every = int(np.ceil(self.frames_per_sec / GIF_FPS))
        frames: list[Any] = self.recorded_frames[::every]
        # A third of the time that Pillow's own choice of colours takes.
        colours: dict[str, Any] = {"method": Image.Quantize.FASTOCTREE, "dither": Image.Dither.NONE}
        first, *others = (Image.fromarray(frame).quantize(256, **colours) for frame in frames)
        milliseconds = round(1000 * every / self.frames_per_sec)
        first.save(path, save_all=True, append_images=others, duration=milliseconds, loop=0)
        self.recording, self.recorded_frames, self._video_name = False, [], None


def make_drawing(recipe: EnvironmentRecipe, mode: str, films: Films | None) -> VectorEnv:
    """Make one environment that draws.

    Args:
        recipe: Of the environment.
        mode: Gymnasium's: `FILM`, or "human" for a window.
        films: Takes its episodes. None: they are only drawn.

    Raises:
        CommandError: If it cannot draw so.
        ValueError: As `make_vector_env`. So with ImportError.
    """
    _require_drawing(recipe.env_id, mode)
    # The innermost: games and episodes as they are, not as a wrapper shows them to a learner.
    wrappers = [*([films.around] if films is not None else []), *recipe.wrappers]
    kwargs = {**recipe.kwargs, "render_mode": mode}
    return make_vector_env(recipe.env_id, 1, "sync", env_kwargs=kwargs, wrappers=wrappers)


def _require_drawing(env_id: str, mode: str) -> None:
    spec = gymnasium_spec(env_id)
    if spec is None:
        raise CommandError(
            f"EnvPool draws nothing, and Gymnasium has no {env_id} here to be filmed"
        )
    creator: Any = spec.entry_point
    try:
        creator = creator if callable(creator) else load_env_creator(str(creator))
    except ImportError:
        # Making it tells what is missing.
        return
    modes = getattr(creator, "metadata", {"render_modes": [mode]}).get("render_modes", [])
    if mode not in modes:
        raise CommandError(
            f'{env_id} cannot be drawn as "{mode}": its metadata["render_modes"] is {list(modes)}'
        )
