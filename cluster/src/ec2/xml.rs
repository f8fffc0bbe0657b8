//! Just enough XML to answer as EC2 does.

use std::fmt::Write as _;

/// A document under construction.
#[derive(Default)]
pub struct Xml(String);

impl Xml {
    /// `<name>text</name>`, escaped.
    pub fn text(&mut self, name: &str, text: &str) -> &mut Self {
        let _ = write!(self.0, "<{name}>{}</{name}>", escape(text));
        self
    }

    /// `<name>...</name>` around what `inside` writes.
    pub fn nest(&mut self, name: &str, inside: impl FnOnce(&mut Self)) -> &mut Self {
        let _ = write!(self.0, "<{name}>");
        inside(self);
        let _ = write!(self.0, "</{name}>");
        self
    }

    /// `<name><item>...</item>...</name>`.
    pub fn items<T>(
        &mut self,
        name: &str,
        list: impl IntoIterator<Item = T>,
        mut each: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        self.nest(name, |xml| {
            for item in list {
                xml.nest("item", |xml| each(xml, item));
            }
        })
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// `<ACTIONResponse>` with the request's id and a body.
pub fn answer(action: &str, request_id: &str, body: &Xml) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{action}Response xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
         <requestId>{request_id}</requestId>{}</{action}Response>\n",
        body.0
    )
}

/// EC2's error document.
pub fn error(code: &str, message: &str, request_id: &str) -> String {
    let mut xml = Xml::default();
    xml.nest("Response", |xml| {
        xml.nest("Errors", |xml| {
            xml.nest("Error", |xml| {
                xml.text("Code", code).text("Message", message);
            });
        });
        xml.text("RequestID", request_id);
    });
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}\n", xml.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_nests() {
        let mut xml = Xml::default();
        xml.items("tagSet", [("a", "<&>")], |xml, (key, value)| {
            xml.text("key", key).text("value", value);
        });
        let text = answer("DescribeX", "id-1", &xml);
        assert!(text.contains("<requestId>id-1</requestId><tagSet><item><key>a</key><value>&lt;&amp;&gt;</value></item></tagSet></DescribeXResponse>"), "{text}");
        assert!(error("Code.X", "why", "id-2").contains("<Response><Errors><Error><Code>Code.X</Code><Message>why</Message></Error></Errors><RequestID>id-2</RequestID></Response>"));
    }
}
