//! Tests identifiers: created from given bytes, printed, and parsed back.

use isopod_policy::{InstanceId, ProcessName, PushId, ReleaseNumber, RequestId};
use proptest::prelude::*;

#[test]
fn ids_have_their_documented_form() {
    let web: ProcessName = "web".parse().expect("the name is valid");
    assert_eq!(PushId::from_random([0; 10]).as_str(), "p-0000000000");
    assert_eq!(PushId::from_random([0, 1, 9, 10, 17, 18, 31, 32, 63, 255]).as_str(), "p-019ahjz0zz");
    assert_eq!(InstanceId::from_random(&web, [7, 15, 3, 19, 2]).as_str(), "web-7f3k2");
    assert_eq!(RequestId::from_random(u128::from_le_bytes([10; 16])).as_str(), "aaaaaaaaaaaaaaaa");
    assert_eq!(ReleaseNumber::FIRST.to_string(), "v1");
}

#[test]
fn a_release_number_is_parsed_with_or_without_its_v() {
    let three = ReleaseNumber::new(3).expect("3 is a valid release number");
    assert_eq!("v3".parse(), Ok(three));
    assert_eq!("3".parse(), Ok(three));
    for text in ["", "v", "v0", "0", "v-1", "+3", "v+3", "vv3", "3.0", "v4294967296"] {
        let error = text.parse::<ReleaseNumber>().expect_err(text);
        assert!(error.to_string().contains("\"v3\""), "{error}");
    }
    assert_eq!(serde_json::to_string(&three).expect("it serialises"), "3");
    assert!(serde_json::from_str::<ReleaseNumber>("0").is_err());
    assert_eq!(ReleaseNumber::new(u32::MAX).and_then(ReleaseNumber::next), None);
}

#[test]
fn an_invalid_id_is_refused() {
    for text in ["", "p-", "p-123", "p-ABCDEFGHIJ", "x-0000000000", "p-00000000000", "p-000000000ü"] {
        assert!(text.parse::<PushId>().is_err(), "{text}");
    }
    for text in ["", "web", "web-", "web-123", "-7f3k2", "web-7f3kI", "2web-7f3k2", "we--b-7f3k2"] {
        assert!(text.parse::<InstanceId>().is_err(), "{text}");
    }
    for text in ["", "aaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaa\n", "AAAAAAAAAAAAAAAA"] {
        assert!(text.parse::<RequestId>().is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn every_id_reads_back(push in any::<[u8; 10]>(), instance in any::<[u8; 5]>(), request in any::<u128>()) {
        let push = PushId::from_random(push);
        prop_assert_eq!(push.as_str().parse(), Ok(push.clone()));
        let process: ProcessName = "night-ly".parse().expect("the name is valid");
        let instance = InstanceId::from_random(&process, instance);
        prop_assert_eq!(instance.as_str().parse(), Ok(instance.clone()));
        prop_assert_eq!(instance.process(), process);
        let request = RequestId::from_random(request);
        prop_assert_eq!(request.as_str().parse(), Ok(request));
        let json = serde_json::to_string(&request).expect("it serialises");
        prop_assert_eq!(serde_json::from_str::<RequestId>(&json).expect("it reads back"), request);
    }
}
