"""The shipped recipes: list, show, schema."""

import click

from scanwise.cli.printing import say, say_json


@click.group(invoke_without_command=True)
@click.pass_context
def recipes(context: click.Context) -> None:
    """List the shipped recipes."""
    if context.invoked_subcommand:
        return
    from scanwise import recipe

    for name in recipe.shipped_recipes():
        recipe_shown = recipe.load_recipe(name)
        say(recipe_shown.title, lead=f"{name:<26} ", bold=True)
    say("\nPrint one with `scanwise recipes show NAME`, keep it as NAME.yaml, change it, and fit that file.")


@recipes.command()
@click.argument("name")
def show(name: str) -> None:
    """Print a shipped recipe as it is, comments included."""
    from scanwise import recipe
    from scanwise.errors import lookup

    say(lookup(recipe.shipped_recipes(), name, "recipe").removesuffix("\n"))


@recipes.command()
def schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    from scanwise import recipe

    say_json(recipe.recipe_schema())
