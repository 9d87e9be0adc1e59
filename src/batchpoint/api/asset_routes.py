"""Routes of versioned assets: the same for models, environments, data, code and components."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Query

from batchpoint.api.endpoint_routes import Patch, named
from batchpoint.api.json_bodies import JsonRoute
from batchpoint.api.services import LIMIT_DEFAULT, After, Limit, Page, Services, page, problems
from batchpoint.api.union_bodies import AnyComponent, ComponentPage
from batchpoint.control.asset_versions import Asset, AssetVersions
from batchpoint.domain.asset import Code, Data, Environment, Model

_Archived = Annotated[bool, Query(description="Also list what is archived.")]


class _Shapes(NamedTuple):
    """The noun of one kind and a page of it, as FastAPI takes them."""

    noun: Any
    page: Any


class _Words(NamedTuple):
    """How the routes of one kind speak of it; `more` says what registering does besides."""

    one: str
    a: str
    many: str
    more: str


def model_routes(services: Services) -> APIRouter:
    """Make the routes under /models."""
    more = "Its files are stored once, whatever `path` points at, and never change."
    words = _Words("model", "a model", "models", more)
    return _asset_routes(services.assets.models, _Shapes(Model, Page[Model]), words)


def environment_routes(services: Services) -> APIRouter:
    """Make the routes under /environments."""
    more = "It is built when a deployment first uses it."
    words = _Words("environment", "an environment", "environments", more)
    return _asset_routes(
        services.assets.environments, _Shapes(Environment, Page[Environment]), words
    )


def data_routes(services: Services) -> APIRouter:
    """Make the routes under /data."""
    more = "It points at data and copies nothing; an upload stays as it is for good."
    words = _Words("data", "a data asset", "data assets", more)
    return _asset_routes(services.assets.data, _Shapes(Data, Page[Data]), words)


def code_routes(services: Services) -> APIRouter:
    """Make the routes under /codes."""
    more = "Deployments name it in `code_configuration.code`."
    words = _Words("code", "a code asset", "code assets", more)
    return _asset_routes(services.assets.codes, _Shapes(Code, Page[Code]), words)


def component_routes(services: Services) -> APIRouter:
    """Make the routes under /components."""
    more = (
        "Its graph, bindings and placeholders are checked as a whole: every finding is in "
        "`errors`. Code that it names by `upload:` is stored with it, and components that stand "
        "in it are registered, too."
    )
    words = _Words("component", "a component", "components", more)
    return _asset_routes(services.assets.components, _Shapes(AnyComponent, ComponentPage), words)


def _asset_routes(assets: AssetVersions[Asset], shapes: _Shapes, words: _Words) -> APIRouter:
    noun = shapes.noun
    collection = assets.kind.collection
    router = APIRouter(prefix=f"/{collection}", tags=[collection], route_class=JsonRoute)

    @router.get(
        "",
        summary=f"List {words.many}",
        name=f"list_{collection}",
        response_model=shapes.page,
        responses=problems(),
        description=f"List the newest version of each of the {words.many}, by name.",
    )
    def list_assets(
        *, limit: Limit = LIMIT_DEFAULT, after: After = None, include_archived: _Archived = False
    ) -> Any:
        found = assets.list(limit, after, include_archived=include_archived)
        return page(found, limit, lambda asset: asset.name)

    def add_asset(body: Any) -> Any:
        return assets.register(body)

    router.post(
        "",
        summary=f"Register {words.a}",
        name=f"add_{words.one}",
        status_code=201,
        response_model=noun,
        responses=problems(404, 409, 507),
        description=f"Register {words.a} as the next version of its name, or as the version it "
        f"gives.\n\n{words.more}",
    )(_taking(add_asset, noun))

    @router.get(
        "/{name}",
        summary=f"Show {words.a}",
        name=f"get_{words.one}",
        response_model=noun,
        responses=problems(404),
        description=f"Show the newest version of {words.a} that is not archived.",
    )
    def get_asset(name: str) -> Any:
        return assets.get(name)

    @router.delete(
        "/{name}",
        summary=f"Delete {words.a}",
        name=f"delete_{words.one}",
        status_code=204,
        responses=problems(404),
        description=f"Delete all versions of {words.a}; who uses them holds what they were.",
    )
    def delete_asset(name: str) -> None:
        assets.delete(name, None)

    _archiving(router, assets, words)
    _versions(router, assets, shapes, words)
    _changes_of_versions(router, assets, shapes.noun, words)
    return router


def _archiving(router: APIRouter, assets: AssetVersions[Asset], words: _Words) -> None:
    @router.post(
        "/{name}/archive",
        summary=f"Archive {words.a}",
        name=f"archive_{words.one}",
        status_code=204,
        responses=problems(404),
        description=f"Leave all versions of {words.a} out of lists and of `@latest`; who names one "
        "still finds it.",
    )
    def archive(name: str) -> None:
        assets.archive(name, None)

    @router.post(
        "/{name}/restore",
        summary=f"Restore {words.a}",
        name=f"restore_{words.one}",
        status_code=204,
        responses=problems(404),
        description=f"Bring all archived versions of {words.a} back.",
    )
    def restore(name: str) -> None:
        assets.archive(name, None, archived=False)


def _versions(
    router: APIRouter, assets: AssetVersions[Asset], shapes: _Shapes, words: _Words
) -> None:
    noun = shapes.noun

    @router.get(
        "/{name}/versions",
        summary=f"List versions of {words.a}",
        name=f"list_{words.one}_versions",
        response_model=shapes.page,
        responses=problems(404),
        description=f"List the versions of {words.a}, newest first.",
    )
    def list_versions(
        name: str,
        *,
        limit: Limit = LIMIT_DEFAULT,
        after: After = None,
        include_archived: _Archived = False,
    ) -> Any:
        found = assets.versions(name, limit, after, include_archived=include_archived)
        return page(found, limit, lambda asset: asset.version)

    def put_version(name: str, version: str, body: Any) -> Any:
        named(body.name or name, name)
        named(body.version or version, version, "version")
        return assets.register(body.model_copy(update={"name": name, "version": version}))

    router.put(
        "/{name}/versions/{version}",
        summary=f"Register a version of {words.a}",
        name=f"put_{words.one}_version",
        response_model=noun,
        responses=problems(404, 409, 507),
        description="Register this very version; with other content than before it is refused.\n\n"
        "The same content changes description, tags and properties.",
    )(_taking(put_version, noun))

    @router.get(
        "/{name}/versions/{version}",
        summary=f"Show a version of {words.a}",
        name=f"get_{words.one}_version",
        response_model=noun,
        responses=problems(404),
        description=f"Show one version of {words.a}, archived or not.",
    )
    def get_version(name: str, version: str) -> Any:
        return assets.get(name, version)


def _changes_of_versions(
    router: APIRouter, assets: AssetVersions[Asset], noun: Any, words: _Words
) -> None:
    @router.patch(
        "/{name}/versions/{version}",
        summary=f"Describe a version of {words.a}",
        name=f"patch_{words.one}_version",
        response_model=noun,
        responses=problems(404, 409),
        description="Change description, tags or properties; the rest never changes.",
    )
    def patch_version(name: str, version: str, patch: Patch) -> Any:
        return assets.update(name, version, patch)

    @router.delete(
        "/{name}/versions/{version}",
        summary=f"Delete a version of {words.a}",
        name=f"delete_{words.one}_version",
        status_code=204,
        responses=problems(404),
        description=f"Delete one version of {words.a}; who uses it holds what it was.",
    )
    def delete_version(name: str, version: str) -> None:
        assets.delete(name, version)

    @router.post(
        "/{name}/versions/{version}/archive",
        summary=f"Archive a version of {words.a}",
        name=f"archive_{words.one}_version",
        response_model=noun,
        responses=problems(404),
        description=f"Leave one version of {words.a} out of lists and of `@latest`.",
    )
    def archive_version(name: str, version: str) -> Any:
        assets.archive(name, version)
        return assets.get(name, version)

    @router.post(
        "/{name}/versions/{version}/restore",
        summary=f"Restore a version of {words.a}",
        name=f"restore_{words.one}_version",
        response_model=noun,
        responses=problems(404),
        description=f"Bring one archived version of {words.a} back.",
    )
    def restore_version(name: str, version: str) -> Any:
        assets.archive(name, version, archived=False)
        return assets.get(name, version)


def _taking(handler: Callable[..., Any], noun: Any) -> Callable[..., Any]:
    """Tell FastAPI which noun the body of a handler is; it reads annotations when it runs."""
    handler.__annotations__["body"] = noun
    return handler
