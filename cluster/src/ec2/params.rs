//! The query protocol's parameters: `Action=...&RouteTableId.1=...`, form-encoded.

use std::collections::BTreeMap;

use super::Refusal;

/// One request's parameters.
#[derive(Clone, Debug, Default)]
pub struct Params(BTreeMap<String, String>);

impl Params {
    /// Decodes `a=b&c=d`; later values win, broken escapes stay as they are.
    pub fn parse(form: &str) -> Self {
        let pairs = form.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        });
        Self(pairs.collect())
    }

    /// A value, if it is there and not empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A value that must be there.
    pub fn need(&self, key: &'static str) -> Result<&str, Refusal> {
        self.get(key).ok_or(Refusal::Missing(key))
    }

    /// `KEY.1`, `KEY.2`, ... in order.
    pub fn list(&self, key: &str) -> Vec<&str> {
        (1..).map_while(|n| self.get(&format!("{key}.{n}"))).collect()
    }

    /// `Filter.N.Name` with its `Filter.N.Value.M`.
    pub fn filters(&self) -> Vec<(&str, Vec<&str>)> {
        (1..)
            .map_while(|n| {
                let name = self.get(&format!("Filter.{n}.Name"))?;
                Some((name, self.list(&format!("Filter.{n}.Value"))))
            })
            .collect()
    }

    /// `true` in any case.
    pub fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => match escaped(bytes.clone()) {
                Some(value) => {
                    out.push(value);
                    bytes.nth(1);
                }
                None => out.push(b'%'),
            },
            plain => out.push(plain),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn escaped(mut rest: std::str::Bytes<'_>) -> Option<u8> {
    let mut digit = || char::from(rest.next()?).to_digit(16);
    let (high, low) = (digit()?, digit()?);
    u8::try_from(high * 16 + low).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_what_the_sdk_sends() {
        let p = Params::parse(
            "Action=DescribeRouteTables&RouteTableId.1=rtb-0a&RouteTableId.2=rtb-0b&DestinationCidrBlock=192.168.77.10%2F32\
             &Filter.1.Name=tag%3Avipd%3Acluster&Filter.1.Value.1=edge&Filter.1.Value.2=other+one&DryRun=True&Broken=%zz%4",
        );
        assert_eq!(p.get("Action"), Some("DescribeRouteTables"));
        assert_eq!(p.list("RouteTableId"), ["rtb-0a", "rtb-0b"]);
        assert_eq!(p.get("DestinationCidrBlock"), Some("192.168.77.10/32"));
        assert_eq!(p.filters(), [("tag:vipd:cluster", vec!["edge", "other one"])]);
        assert!(p.flag("DryRun"));
        assert_eq!(p.get("Broken"), Some("%zz%4"));
        assert_eq!(p.need("NetworkInterfaceId"), Err(Refusal::Missing("NetworkInterfaceId")));
    }
}
