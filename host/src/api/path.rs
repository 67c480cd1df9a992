//! Owns the descriptions of path parameters. Never reads a request.

use isopod_policy::{AppName, InstanceId, ProcessName, PushId};
use utoipa::{
    IntoParams, PartialSchema,
    openapi::{
        ObjectBuilder, RefOr, Required, Schema,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::Type,
    },
};

/// The path parameter of a release: `3` or `v3`.
struct Release;

impl Release {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).pattern(Some("^v?[1-9][0-9]{0,8}$")).into()
    }
}

macro_rules! path_params {
    ($(#[$doc:meta])* $params:ident: $($name:literal $type:ty, $description:literal);+) => {
        $(#[$doc])*
        pub(super) enum $params {}

        impl IntoParams for $params {
            fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
                vec![$(in_path($name, $description, <$type>::schema())),+]
            }
        }
    };
}

fn in_path(name: &str, description: &str, schema: RefOr<Schema>) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

path_params!(AppPath: "app" AppName, "The app's name");
path_params!(PushPath: "app" AppName, "The app's name"; "id" PushId, "The push's id");
path_params!(ReleasePath: "app" AppName, "The app's name"; "release" Release, "The release's number, as `3` or `v3`");
path_params!(ProcessPath: "app" AppName, "The app's name"; "process" ProcessName, "The process type's name");
path_params!(InstancePath: "app" AppName, "The app's name"; "id" InstanceId, "The instance's id");
path_params!(EventPath: "app" AppName, "The app's name"; "id" String, "The event's id");
path_params!(DrainPath: "app" AppName, "The app's name"; "drain" String, "The drain's id");
path_params!(TokenPath: "name" AppName, "The token's name");
path_params!(PluginPath: "name" AppName, "The plugin's name");
