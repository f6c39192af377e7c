"""The shipped recipes: list, show, schema."""

import click


@click.group(invoke_without_command=True)
@click.pass_context
def recipes(context: click.Context) -> None:
    """List the shipped recipes."""
    if context.invoked_subcommand:
        return
    from scanwise import recipe

    for name in recipe.shipped_recipes():
        recipe_shown = recipe.load_recipe(name)
        click.echo(f"{click.style(name, bold=True):<34} {recipe_shown.title}")
    click.echo("\nPrint one with `scanwise recipes show NAME`, keep it as NAME.yaml, change it, and fit that file.")


@recipes.command()
@click.argument("name")
def show(name: str) -> None:
    """Print a shipped recipe as it is, comments included."""
    from scanwise import recipe
    from scanwise.errors import lookup

    click.echo(lookup(recipe.shipped_recipes(), name, "recipe"), nl=False)


@recipes.command()
def schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    from scanwise import recipe

    click.echo(recipe.recipe_schema(), nl=False)
