//! The imports and exports of the hand-written bindings, in the form that the linker's component
//! step reads: custom sections generated from `sdk/wit` by `wit-bindgen` (see `sdk/wit/README.md`).
//! Contains bytes and no logic.

/// The world that exports `isopod:app/http-packed`.
#[rustfmt::skip]
#[allow(clippy::octal_escapes)]
pub const HTTP: [u8; 287] = *b"\
\0asm\x0d\0\x01\0\0\x19\x16wit-component-encoding\x04\0\x07\x99\x01\x01A\x02\
\x01A\x02\x01B\x06\x01p}\x01r\x03\x06status{\x07headers\0\x04body\0\x04\0\x08re\
sponse\x03\0\x01\x01j\x01\x02\x01s\x01@\x01\x07request\0\0\x03\x04\0\x06handle\
\x01\x04\x04\0\x1cisopod:app/http-packed@0.1.0\x05\0\x04\0 isopod:app/http-pack\
ed-app@0.1.0\x04\0\x0b\x15\x01\0\x0fhttp-packed-app\x03\0\0\0G\x09producers\x01\
\x0cprocessed-by\x02\x0dwit-component\x070.259.0\x10wit-bindgen-rust\x060.62.0";

/// The world that exports `isopod:app/event-handler`.
#[rustfmt::skip]
#[allow(clippy::octal_escapes)]
pub const EVENT_HANDLER: [u8; 481] = *b"\
\0asm\x0d\0\x01\0\0\x19\x16wit-component-encoding\x04\0\x07\xd9\x02\x01A\x02\x01\
A\x02\x01B\x10\x01ks\x01p}\x01k\x01\x01o\x02ss\x01p\x03\x01r\x0a\x02ids\x06sourc\
es\x04types\x07subject\0\x04time\0\x11data-content-type\0\x0bdata-schema\0\x04da\
ta\x02\x0aextensions\x04\x07attempty\x04\0\x05event\x03\0\x05\x01r\x02\x11data-c\
ontent-types\x04data\x01\x04\0\x05reply\x03\0\x07\x01o\x02sw\x01q\x04\x09permane\
nt\x01s\0\x05retry\x01s\0\x0bretry-after\x01\x09\0\x06snooze\x01\x09\0\x04\0\x07\
failure\x03\0\x0a\x01k\x08\x01j\x01\x0c\x01\x0b\x01@\x01\x05event\x06\0\x0d\x04\0\
\x06handle\x01\x0e\x04\0\x1eisopod:app/event-handler@0.1.0\x05\0\x04\0\"isopod:a\
pp/event-handler-app@0.1.0\x04\0\x0b\x17\x01\0\x11event-handler-app\x03\0\0\0G\x09\
producers\x01\x0cprocessed-by\x02\x0dwit-component\x070.259.0\x10wit-bindgen-rus\
t\x060.62.0";

/// The world that exports `isopod:app/health`.
#[rustfmt::skip]
#[allow(clippy::octal_escapes)]
pub const HEALTH: [u8; 217] = *b"\
\0asm\x0d\0\x01\0\0\x19\x16wit-component-encoding\x04\0\x07Y\x01A\x02\x01A\x02\x01\
B\x03\x01j\0\x01s\x01@\0\0\0\x04\0\x05check\x01\x01\x04\0\x17isopod:app/health@0\
.1.0\x05\0\x04\0\x1bisopod:app/health-app@0.1.0\x04\0\x0b\x10\x01\0\x0ahealth-ap\
p\x03\0\0\0G\x09producers\x01\x0cprocessed-by\x02\x0dwit-component\x070.259.0\x10\
wit-bindgen-rust\x060.62.0";

/// The world that exports `isopod:app/init`.
#[rustfmt::skip]
#[allow(clippy::octal_escapes)]
pub const INIT: [u8; 210] = *b"\
\0asm\x0d\0\x01\0\0\x19\x16wit-component-encoding\x04\0\x07T\x01A\x02\x01A\x02\
\x01B\x03\x01j\0\x01s\x01@\0\0\0\x04\0\x04init\x01\x01\x04\0\x15isopod:app/init@\
0.1.0\x05\0\x04\0\x19isopod:app/init-app@0.1.0\x04\0\x0b\x0e\x01\0\x08init-app\
\x03\0\0\0G\x09producers\x01\x0cprocessed-by\x02\x0dwit-component\x070.259.0\x10\
wit-bindgen-rust\x060.62.0";

/// The world that exports `isopod:plugin/middleware` and `isopod:plugin/body-handler`.
#[rustfmt::skip]
#[allow(clippy::octal_escapes)]
pub const MIDDLEWARE: [u8; 1153] = *b"\
\0asm\x0d\0\x01\0\0\x19\x16wit-component-encoding\x04\0\x07\xff\x07\x01A\x02\x01\
A\x08\x01B\x1f\x01p}\x01o\x02s\0\x01p\x01\x01ks\x01r\x08\x06methods\x06schemes\x09\
authoritys\x0fpath-with-querys\x07headers\x02\x0eclient-address\x03\x03apps\x0ar\
equest-ids\x04\0\x07request\x03\0\x04\x01r\x03\x06status{\x07headers\x02\x04body\
\0\x04\0\x08response\x03\0\x06\x01r\x03\x04paths\x06status{\x07headers\x02\x04\0\
\x0easset-response\x03\0\x08\x01q\x03\x03set\x01\x01\0\x06append\x01\x01\0\x06re\
move\x01s\0\x04\0\x0dheader-change\x03\0\x0a\x01p\x0b\x01k\0\x01r\x03\x0fpath-wi\
th-query\x03\x07headers\x0c\x10response-context\x0d\x04\0\x0frequest-changes\x03\
\0\x0e\x01q\x04\x04pass\0\0\x06change\x01\x0f\0\x07respond\x01\x07\0\x05asset\x01\
\x09\0\x04\0\x08decision\x03\0\x10\x01r\x02\x06status{\x07headers\x02\x04\0\x0dr\
esponse-head\x03\0\x12\x01k{\x01r\x02\x06status\x14\x07headers\x0c\x04\0\x10resp\
onse-changes\x03\0\x15\x01q\x03\x04pass\0\0\x06change\x01\x16\0\x07replace\x01\x07\
\0\x04\0\x11response-decision\x03\0\x17\x01j\x01\x11\x01s\x01@\x02\x06configs\x07\
request\x05\0\x19\x04\0\x0aon-request\x01\x1a\x01j\x01\x18\x01s\x01@\x03\x06conf\
igs\x07context\0\x08response\x13\0\x1b\x04\0\x0bon-response\x01\x1c\x04\0\x1eiso\
pod:plugin/middleware@0.1.0\x05\0\x02\x03\0\0\x07request\x02\x03\0\0\x08decision\
\x02\x03\0\0\x0dresponse-head\x02\x03\0\0\x11response-decision\x01B\x12\x02\x03\x02\
\x01\x01\x04\0\x07request\x03\0\0\x02\x03\x02\x01\x02\x04\0\x08decision\x03\0\x02\
\x02\x03\x02\x01\x03\x04\0\x0dresponse-head\x03\0\x04\x02\x03\x02\x01\x04\x04\0\x11\
response-decision\x03\0\x06\x01p}\x01k\x08\x01o\x02\x03\x09\x01j\x01\x0a\x01s\x01\
@\x03\x06configs\x07request\x01\x04body\x08\0\x0b\x04\0\x0fon-request-body\x01\x0c\
\x01o\x02\x07\x09\x01j\x01\x0d\x01s\x01@\x04\x06configs\x07context\x08\x08respon\
se\x05\x04body\x08\0\x0e\x04\0\x10on-response-body\x01\x0f\x04\0\x20isopod:plugi\
n/body-handler@0.1.0\x05\x05\x04\0\x1fisopod:plugin/body-plugin@0.1.0\x04\0\x0b\x11\
\x01\0\x0bbody-plugin\x03\0\0\0G\x09producers\x01\x0cprocessed-by\x02\x0dwit-com\
ponent\x070.259.0\x10wit-bindgen-rust\x060.62.0";

/// The world that exports `isopod:plugin/hook`.
#[rustfmt::skip]
#[allow(clippy::octal_escapes)]
pub const HOOK: [u8; 425] = *b"\
\0asm\x0d\0\x01\0\0\x19\x16wit-component-encoding\x04\0\x07\xa7\x02\x01A\x02\x01\
A\x02\x01B\x0d\x01ks\x01p}\x01k\x01\x01o\x02ss\x01p\x03\x01r\x0a\x02ids\x06sourc\
es\x04types\x07subject\0\x04time\0\x11data-content-type\0\x0bdata-schema\0\x04da\
ta\x02\x0aextensions\x04\x07attempty\x04\0\x05event\x03\0\x05\x01o\x02sw\x01q\x04\
\x09permanent\x01s\0\x05retry\x01s\0\x0bretry-after\x01\x07\0\x06snooze\x01\x07\0\
\x04\0\x07failure\x03\0\x08\x01j\0\x01\x09\x01@\x01\x05event\x06\0\x0a\x04\0\x08\
on-event\x01\x0b\x04\0\x18isopod:plugin/hook@0.1.0\x05\0\x04\0\x1fisopod:plugin/\
hook-plugin@0.1.0\x04\0\x0b\x11\x01\0\x0bhook-plugin\x03\0\0\0G\x09producers\x01\
\x0cprocessed-by\x02\x0dwit-component\x070.259.0\x10wit-bindgen-rust\x060.62.0";

/// The world that exports `isopod:plugin/gate`.
#[rustfmt::skip]
#[allow(clippy::octal_escapes)]
pub const GATE: [u8; 524] = *b"\
\0asm\x0d\0\x01\0\0\x19\x16wit-component-encoding\x04\0\x07\x8a\x03\x01A\x02\x01\
A\x02\x01B\x0c\x01m\x06\x04push\x08rollback\x06config\x09formation\x06grants\x08\
approval\x04\0\x05cause\x03\0\0\x01ky\x01ps\x01ks\x01r\x0e\x03apps\x08app-types\x06\
numbery\x07current\x02\x05cause\x01\x0bdescriptions\x0acreated-bys\x0dmanifest-n\
ames\x06digests\x0asize-bytesw\x0amiddleware\x03\x06grantss\x0ecurrent-grants\x04\
\x0ewidened-grants\x03\x04\0\x07release\x03\0\x05\x01q\x02\x05allow\0\0\x06refus\
e\x01s\0\x04\0\x08decision\x03\0\x07\x01j\x01\x08\x01s\x01@\x02\x06configs\x07re\
lease\x06\0\x09\x04\0\x0fbefore-activate\x01\x0a\x04\0\x18isopod:plugin/gate@0.1\
.0\x05\0\x04\0\x1fisopod:plugin/gate-plugin@0.1.0\x04\0\x0b\x11\x01\0\x0bgate-pl\
ugin\x03\0\0\0G\x09producers\x01\x0cprocessed-by\x02\x0dwit-component\x070.259.0\
\x10wit-bindgen-rust\x060.62.0";

/// The world that exports `isopod:plugin/config`.
#[rustfmt::skip]
#[allow(clippy::octal_escapes)]
pub const PLUGIN_CONFIG: [u8; 247] = *b"\
\0asm\x0d\0\x01\0\0\x19\x16wit-component-encoding\x04\0\x07t\x01A\x02\x01A\x02\x01\
B\x03\x01j\0\x01s\x01@\x01\x06configs\0\0\x04\0\x0fvalidate-config\x01\x01\x04\0\
\x1aisopod:plugin/config@0.1.0\x05\0\x04\0!isopod:plugin/config-plugin@0.1.0\x04\
\0\x0b\x13\x01\0\x0dconfig-plugin\x03\0\0\0G\x09producers\x01\x0cprocessed-by\x02\
\x0dwit-component\x070.259.0\x10wit-bindgen-rust\x060.62.0";

/// The world of the imports beyond WASI: key-value, config, logging, events to send. A component
/// imports only the interfaces that it uses.
#[rustfmt::skip]
#[unsafe(link_section = "component-type:isopod-sdk:0.1.0:platform")]
#[allow(clippy::octal_escapes, dead_code)]
static PLATFORM: [u8; 1522] = *b"\
\0asm\x0d\0\x01\0\0\x19\x16wit-component-encoding\x04\0\x07\xf3\x0a\x01A\x02\x01\
A\x0c\x01B\x1c\x01q\x03\x0dno-such-store\0\0\x0daccess-denied\0\0\x05other\x01s\0\
\x04\0\x05error\x03\0\0\x01ps\x01ks\x01r\x02\x04keys\x02\x06cursor\x03\x04\0\x0c\
key-response\x03\0\x04\x04\0\x06bucket\x03\x01\x01h\x06\x01p}\x01k\x08\x01j\x01\x09\
\x01\x01\x01@\x02\x04self\x07\x03keys\0\x0a\x04\0\x12[method]bucket.get\x01\x0b\x01\
j\0\x01\x01\x01@\x03\x04self\x07\x03keys\x05value\x08\0\x0c\x04\0\x12[method]buc\
ket.set\x01\x0d\x01@\x02\x04self\x07\x03keys\0\x0c\x04\0\x15[method]bucket.delet\
e\x01\x0e\x01j\x01\x7f\x01\x01\x01@\x02\x04self\x07\x03keys\0\x0f\x04\0\x15[meth\
od]bucket.exists\x01\x10\x01j\x01\x05\x01\x01\x01@\x02\x04self\x07\x06cursor\x03\
\0\x11\x04\0\x18[method]bucket.list-keys\x01\x12\x01i\x06\x01j\x01\x13\x01\x01\x01\
@\x01\x0aidentifiers\0\x14\x04\0\x04open\x01\x15\x03\0\x20wasi:keyvalue/store@0.\
2.0-draft2\x05\0\x02\x03\0\0\x06bucket\x02\x03\0\0\x05error\x01B\x18\x02\x03\x02\
\x01\x01\x04\0\x06bucket\x03\0\0\x02\x03\x02\x01\x02\x04\0\x05error\x03\0\x02\x04\
\0\x03cas\x03\x01\x01i\x04\x01q\x02\x0bstore-error\x01\x03\0\x0acas-failed\x01\x05\
\0\x04\0\x09cas-error\x03\0\x06\x01h\x01\x01j\x01\x05\x01\x03\x01@\x02\x06bucket\
\x08\x03keys\0\x09\x04\0\x0f[static]cas.new\x01\x0a\x01h\x04\x01p}\x01k\x0c\x01j\
\x01\x0d\x01\x03\x01@\x01\x04self\x0b\0\x0e\x04\0\x13[method]cas.current\x01\x0f\
\x01j\x01x\x01\x03\x01@\x03\x06bucket\x08\x03keys\x05deltax\0\x10\x04\0\x09incre\
ment\x01\x11\x01j\0\x01\x07\x01@\x02\x03cas\x05\x05value\x0c\0\x12\x04\0\x04swap\
\x01\x13\x03\0\"wasi:keyvalue/atomics@0.2.0-draft2\x05\x03\x01B\x0b\x01q\x02\x08\
upstream\x01s\0\x02io\x01s\0\x04\0\x05error\x03\0\0\x01ks\x01j\x01\x02\x01\x01\x01\
@\x01\x03keys\0\x03\x04\0\x03get\x01\x04\x01o\x02ss\x01p\x05\x01j\x01\x06\x01\x01\
\x01@\0\0\x07\x04\0\x07get-all\x01\x08\x03\0\x1cwasi:config/store@0.2.0-rc.1\x05\
\x04\x01B\x04\x01m\x06\x05trace\x05debug\x04info\x04warn\x05error\x08critical\x04\
\0\x05level\x03\0\0\x01@\x03\x05level\x01\x07contexts\x07messages\x01\0\x04\0\x03\
log\x01\x02\x03\0\x20wasi:logging/logging@0.1.0-draft\x05\x05\x01B\x13\x01ks\x01\
p}\x01k\x01\x01o\x02ss\x01p\x03\x01kw\x01r\x0c\x02id\0\x06source\0\x04types\x07s\
ubject\0\x04time\0\x11data-content-type\0\x0bdata-schema\0\x04data\x02\x0aextens\
ions\x04\x08delay-ms\x05\x0aexpires-ms\x05\x03app\0\x04\0\x09new-event\x03\0\x06\
\x01r\x02\x11data-content-types\x04data\x01\x04\0\x05reply\x03\0\x08\x01q\x05\x06\
denied\x01s\0\x04full\x01s\0\x07invalid\x01s\0\x06failed\x01s\0\x05other\x01s\0\x04\
\0\x05error\x03\0\x0a\x01j\x01s\x01\x0b\x01@\x01\x05event\x07\0\x0c\x04\0\x04emi\
t\x01\x0d\x01k\x09\x01j\x01\x0e\x01\x0b\x01@\x02\x05event\x07\x0atimeout-ms\x05\0\
\x0f\x04\0\x03ask\x01\x10\x03\0\x15isopod:app/emit@0.1.0\x05\x06\x04\0\x19isopod\
:app/platform@0.1.0\x04\0\x0b\x0e\x01\0\x08platform\x03\0\0\0G\x09producers\x01\x0c\
processed-by\x02\x0dwit-component\x070.259.0\x10wit-bindgen-rust\x060.62.0";

/// The world that imports `isopod:plugin/counters`. A component imports it only if it uses it.
#[rustfmt::skip]
#[unsafe(link_section = "component-type:isopod-sdk:0.1.0:counting-plugin")]
#[allow(clippy::octal_escapes, dead_code)]
static COUNTERS: [u8; 424] = *b"\
\0asm\x0d\0\x01\0\0\x19\x16wit-component-encoding\x04\0\x07\xa2\x02\x01A\x02\
\x01A\x02\x01B\x09\x01r\x03\x06tokensy\x09period-msy\x05bursty\x04\0\x04rate\
\x03\0\0\x01r\x04\x05taken\x7f\x09remainingy\x0eretry-after-msw\x0dfull-after-m\
sw\x04\0\x05state\x03\0\x02\x01m\x04\x0bunavailable\x0ckey-too-long\x0cinvalid-\
rate\x0einvalid-tokens\x04\0\x05error\x03\0\x04\x01j\x01\x03\x01\x05\x01@\x03\
\x03keys\x06tokensy\x04rate\x01\0\x06\x04\0\x04take\x01\x07\x03\0\x1cisopod:plu\
gin/counters@0.1.0\x05\0\x04\0#isopod:plugin/counting-plugin@0.1.0\x04\0\x0b\
\x15\x01\0\x0fcounting-plugin\x03\0\0\0G\x09producers\x01\x0cprocessed-by\x02\
\x0dwit-component\x070.259.0\x10wit-bindgen-rust\x060.62.0";

/// The world of the assets, which only plugins import.
#[rustfmt::skip]
#[unsafe(link_section = "component-type:isopod-sdk:0.1.0:assets-plugin")]
#[allow(clippy::octal_escapes, dead_code)]
static ASSETS: [u8; 351] = *b"\
\0asm\x0d\0\x01\0\0\x19\x16wit-component-encoding\x04\0\x07\xbb\x01\x01A\x02\x01\
A\x02\x01B\x06\x01ps\x01r\x04\x04sizew\x0ccontent-types\x04etags\x09encodings\0\x04\
\0\x05asset\x03\0\x01\x01k\x02\x01@\x01\x04paths\0\x03\x04\0\x04find\x01\x04\x03\
\0\x1aisopod:plugin/assets@0.1.0\x05\0\x04\0Aisopod:plugin/assets-plugin-with-al\
l-of-its-exports-removed@0.1.0\x04\0\x0b3\x01\0-assets-plugin-with-all-of-its-ex\
ports-removed\x03\0\0\0G\x09producers\x01\x0cprocessed-by\x02\x0dwit-component\x07\
0.259.0\x10wit-bindgen-rust\x060.62.0";

/// The world that imports `isopod:plugin/bodies`. A component imports it only if it uses it.
#[rustfmt::skip]
#[unsafe(link_section = "component-type:isopod-sdk:0.1.0:asking-plugin")]
#[allow(clippy::octal_escapes, dead_code)]
static BODIES: [u8; 233] = *b"\
\0asm\x0d\0\x01\0\0\x19\x16wit-component-encoding\x04\0\x07f\x01A\x02\x01A\x02\x01\
B\x02\x01@\x01\x09bytes-maxw\x01\0\x04\0\x03ask\x01\0\x03\0\x1aisopod:plugin/bod\
ies@0.1.0\x05\0\x04\0!isopod:plugin/asking-plugin@0.1.0\x04\0\x0b\x13\x01\0\x0da\
sking-plugin\x03\0\0\0G\x09producers\x01\x0cprocessed-by\x02\x0dwit-component\x07\
0.259.0\x10wit-bindgen-rust\x060.62.0";

/// The SDK that an app is built with, readable from the component without running it.
#[unsafe(link_section = "isopod-sdk")]
#[allow(dead_code)]
static SDK: [u8; 10] = *b"rust/0.1.0";

const _: () = assert!(matches!(env!("CARGO_PKG_VERSION").as_bytes(), b"0.1.0"), "SDK's section names another version");

/// Does nothing. A reference to it links this file, and so its sections.
#[inline(never)]
pub fn link() {}
