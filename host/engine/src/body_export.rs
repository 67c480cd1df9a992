//! The functions of a plugin's export `isopod:plugin/body-handler`. Compares their types with those
//! of `isopod:plugin/middleware`. Never calls them.

use crate::{
    inspect::{BODY_HANDLER, ComponentInfo, MIDDLEWARE, Rejected},
    state::HostState,
};
use wasmtime::component::{
    Component, ComponentExportIndex, InstancePre, Type,
    types::{ComponentFunc, ComponentItem},
};

/// The indices of the functions in a component.
pub(crate) struct BodyExport {
    pub(crate) on_request_body: ComponentExportIndex,
    pub(crate) on_response_body: ComponentExportIndex,
}

impl BodyExport {
    /// Finds the functions; `None` if the component doesn't export the interface.
    pub(crate) fn find(info: &ComponentInfo, pre: &InstancePre<HostState>) -> Option<Result<Self, Rejected>> {
        let exported = |prefix: &str| info.exports.iter().find(|name| name.starts_with(prefix));
        let name = exported(BODY_HANDLER)?;
        let component = pre.component();
        let found = |function: &str, of_head: &str| {
            let malformed = |what| Rejected::Malformed { detail: format!("its export {name} has {what}") };
            let (body, index) =
                function_of(component, name, function).ok_or_else(|| malformed(format!("no function `{function}`")))?;
            match exported(MIDDLEWARE).and_then(|middleware| function_of(component, middleware, of_head)) {
                Some((head, _)) if !takes_body_of(&body, &head) => {
                    Err(malformed(format!("a function `{function}` whose type differs from its interface")))
                }
                _ => Ok(index),
            }
        };
        let on_request_body = found("on-request-body", "on-request");
        let both = on_request_body.and_then(|on_request_body| {
            Ok(Self { on_request_body, on_response_body: found("on-response-body", "on-response")? })
        });
        Some(both)
    }
}

/// Returns the type and the index of a function of an exported interface.
fn function_of(
    component: &Component,
    interface: &str,
    function: &str,
) -> Option<(ComponentFunc, ComponentExportIndex)> {
    let interface = component.get_export_index(None, interface)?;
    match component.get_export(Some(&interface), function)? {
        (ComponentItem::ComponentFunc(found), index) => Some((found, index)),
        _ => None,
    }
}

/// Returns whether a function takes the arguments of the function for heads and a body, and returns
/// that function's decision with an optional body.
fn takes_body_of(function: &ComponentFunc, of_head: &ComponentFunc) -> bool {
    let arguments = |function: &ComponentFunc| -> Vec<Type> { function.params().map(|(_, ty)| ty).collect() };
    let (mut with_body, of_heads) = (arguments(function), arguments(of_head));
    let takes_body = with_body.pop().is_some_and(|last| is_bytes(&last)) && with_body == of_heads;
    takes_body && !function.async_() && decides_with_body(function, of_head) == Some(true)
}

/// Returns whether a function returns the other function's decision with an optional body. `None`
/// if one of them has no result.
fn decides_with_body(function: &ComponentFunc, of_head: &ComponentFunc) -> Option<bool> {
    let (Type::Result(result), Type::Result(of_head)) = (function.results().next()?, of_head.results().next()?) else {
        return Some(false);
    };
    let Type::Tuple(decided) = result.ok()? else { return Some(false) };
    let decided: Vec<Type> = decided.types().collect();
    let [decision, Type::Option(body)] = decided.as_slice() else { return Some(false) };
    Some(*decision == of_head.ok()? && is_bytes(&body.ty()) && result.err() == of_head.err())
}

fn is_bytes(ty: &Type) -> bool {
    matches!(ty, Type::List(list) if list.ty() == Type::U8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a component whose interface `x` has the functions `head` and `body`, the second with
    /// this parameter and result.
    fn component(body: &str, result: &str) -> Component {
        let lifted = |name: &str| {
            format!("(canon lift (core func $i \"{name}\") (memory $i \"memory\") (realloc (func $i \"realloc\")))")
        };
        let text = format!(
            "(component
              (core module $m
                (memory (export \"memory\") 1)
                (func (export \"realloc\") (param i32 i32 i32 i32) (result i32) unreachable)
                (func (export \"head\") (param i32 i32 i32) (result i32) unreachable)
                (func (export \"body\") (param i32 i32 i32 i32 i32) (result i32) unreachable))
              (core instance $i (instantiate $m))
              (func $head (param \"config\" string) (param \"request\" u32) (result (result u8 (error string))) {})
              (func $body (param \"config\" string) (param \"request\" u32) (param \"body\" {body}) (result {result})
                {})
              (instance $x (export \"head\" (func $head)) (export \"body\" (func $body)))
              (export \"x\" (instance $x)))",
            lifted("head"),
            lifted("body"),
        );
        Component::new(&wasmtime::Engine::default(), wat::parse_str(text).unwrap()).unwrap()
    }

    #[test]
    fn a_body_handler_has_the_types_of_the_middleware() {
        let bytes = "(list u8)";
        let expected = "(result (tuple u8 (option (list u8))) (error string))";
        let cases = [
            (bytes, expected, true),
            ("string", expected, false),
            ("(list u16)", expected, false),
            (bytes, "(result (tuple u16 (option (list u8))) (error string))", false),
            (bytes, "(result (tuple u8 (option string)) (error string))", false),
            (bytes, "(result (tuple u8 (option (list u8)) u8) (error string))", false),
            (bytes, "(result u8 (error string))", false),
            (bytes, "(result (tuple u8 (option (list u8))))", false),
            (bytes, "string", false),
        ];
        for (body, result, fits) in cases {
            let component = component(body, result);
            let [(head, _), (function, _)] = ["head", "body"].map(|name| function_of(&component, "x", name).unwrap());
            assert_eq!(takes_body_of(&function, &head), fits, "{body} {result}");
            assert!(!takes_body_of(&head, &head));
        }
    }
}
