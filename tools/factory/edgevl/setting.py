"""What every step of EdgeVL reads: recipe, start student, its own teacher, label words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tools.factory.edgevl.curation import Superset, load_superset
from tools.factory.edgevl.recipe import EdgeVLRecipe, PairRecipe, StageSettings
from tools.factory.int8.export import fold_all
from tools.factory.recipe import Recipe, SourceRecipe, TargetsRecipe, TeacherRecipe
from tools.factory.students.student import Student
from tools.factory.teachers.teacher import Teacher
from tools.factory.training.run_folder import load_run
from tools.factory.training.student_teacher import teacher_of


@dataclass(frozen=True)
class Setting:
    """One run.

    start, student, text_space: the start run's recipe, its student with BatchNorm folded and its
        first layers frozen, and the space it answers in.
    teacher: the start student itself, as `teacher_recipe` names it.
    supersets: by the file that the recipe names.
    """

    recipe: EdgeVLRecipe
    start: Recipe
    student: Student
    text_space: str
    teacher_recipe: TeacherRecipe
    teacher: Teacher
    supersets: dict[str, Superset]
    data: Path
    output: Path
    quiet: bool

    def list_of(self, source: PairRecipe | SourceRecipe) -> Path:
        """The curated list of a source, which training reads."""
        return (self.output / f"{source.name}.csv").resolve()

    def stage_recipe(self, stage: StageSettings, member: int = 0) -> Recipe:
        """The recipe of one training of a stage.

        member: of the soup. It changes the order of pictures and views, not what is stored of them.
        """
        own = self.recipe
        pairs = [
            SourceRecipe(
                name=pair.name,
                path=str(self.list_of(pair)),
                kind="csv",
                label="label",
                weight=pair.weight,
            )
            for pair in own.pairs
        ]
        colour = [
            replace(source, path=str(self.list_of(source)), kind="csv", label="", limit=0)
            for source in own.colour
        ]
        return replace(
            self.start,
            name=own.name,
            version=own.version,
            seed=own.seed + member,
            teacher=self.teacher_recipe,
            student=replace(self.start.student, frozen=own.frozen),
            data=(*pairs, *colour),
            augment=own.augment,
            targets=TargetsRecipe(own.views, True, teacher_sees="geometry", condition_mix=0.0),
            losses=stage.losses,
            train=stage.train,
        )


def open_setting(
    recipe: EdgeVLRecipe, start: Path, data: Path, output: Path, *, quiet: bool
) -> Setting:
    """Load the start run and embed the words of every superset; makes the output folder."""
    torch.manual_seed(recipe.seed)
    start_recipe, student, text_space = load_run(start)
    folded = fold_all(student)
    folded.freeze(recipe.frozen)
    teacher_recipe = TeacherRecipe(f"run:{start}", start_recipe.teacher.weights)
    teacher = teacher_of(teacher_recipe)

    files = {pair.labels for pair in (*recipe.pairs, recipe.evaluation)}
    if recipe.colour_labels:
        files.add(recipe.colour_labels)
    supersets = {file: load_superset(Path(file), teacher) for file in sorted(files)}

    output.mkdir(parents=True, exist_ok=True)
    return Setting(
        recipe,
        start_recipe,
        folded,
        text_space,
        teacher_recipe,
        teacher,
        supersets,
        data.resolve(),
        output,
        quiet,
    )
