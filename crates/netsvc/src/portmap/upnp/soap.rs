//! SOAP as UPnP uses it (UPnP Device Architecture 1.1 §3): actions to XML, XML to answers.

use super::xml::{self, Refusal, child_text, escape};

/// An action of a service. Arguments keep their order: some routers read them by position.
#[derive(Debug, Clone, Copy)]
pub struct Action<'a> {
    /// The service's type, as its device writes it.
    pub service_type: &'a str,
    /// The action.
    pub name: &'a str,
    /// Its arguments.
    pub arguments: &'a [(&'a str, &'a str)],
}

/// What a service answers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// It did it; these are its results.
    Done(Vec<(String, String)>),
    /// It did not.
    Fault {
        /// The UPnP error code.
        code: u16,
        /// The text beside it.
        text: String,
    },
}

impl Action<'_> {
    /// The content of the request.
    #[must_use]
    pub fn encode(&self) -> String {
        let Self { service_type, name, arguments } = self;
        let mut text = format!(
            "<?xml version=\"1.0\"?>\r\n\
             <s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\">\
             <s:Body><u:{name} xmlns:u=\"{service_type}\">"
        );
        for (argument, value) in *arguments {
            text.push('<');
            text.push_str(argument);
            text.push('>');
            escape(value, &mut text);
            text.push_str("</");
            text.push_str(argument);
            text.push('>');
        }
        text.push_str(&format!("</u:{name}></s:Body></s:Envelope>\r\n"));
        text
    }

    /// The value of the `soapaction` field, quoted as the architecture demands.
    #[must_use]
    pub fn field(&self) -> String {
        format!("\"{}#{}\"", self.service_type, self.name)
    }
}

impl Answer {
    /// Reads the answer to the action `name`.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn parse(text: &str, name: &str) -> Result<Self, Refusal> {
        let document = xml::parse(text)?;
        let root = document.root_element();
        if let Some(error) = xml::find(root, "UPnPError") {
            let code = child_text(error, "errorCode").and_then(|code| code.parse().ok());
            let text = child_text(error, "errorDescription").unwrap_or_default();
            let code = code.ok_or(Refusal::Lacks("an error code"))?;
            return Ok(Self::Fault { code, text: text.to_owned() });
        }
        if xml::find(root, "Fault").is_some() {
            return Err(Refusal::Lacks("an error code"));
        }
        let response = xml::find(root, &format!("{name}Response"));
        let response = response.ok_or(Refusal::Lacks("the response to the action"))?;
        let results = response.children().filter(roxmltree::Node::is_element).map(|result| {
            let value = result.text().unwrap_or_default().trim();
            (result.tag_name().name().to_owned(), value.to_owned())
        });
        Ok(Self::Done(results.take(RESULTS_MAX).collect()))
    }
}

const RESULTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions() {
        let action = Action {
            service_type: "urn:s:1",
            name: "Do",
            arguments: &[("NewB", "1"), ("NewA", "<&\">")],
        };
        let text = action.encode();
        assert!(
            text.contains(
                "<u:Do xmlns:u=\"urn:s:1\"><NewB>1</NewB><NewA>&lt;&amp;&quot;&gt;</NewA></u:Do>"
            ),
            "{text}"
        );
        assert!(roxmltree::Document::parse(&text).is_ok());
        assert_eq!(action.field(), "\"urn:s:1#Do\"");
    }

    fn envelope(inside: &str) -> String {
        format!(
            "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>{inside}</s:Body></s:Envelope>"
        )
    }

    #[track_caller]
    fn check(inside: &str, want: &Result<Answer, Refusal>) {
        assert_eq!(&Answer::parse(&envelope(inside), "Do"), want, "{inside}");
    }

    #[test]
    fn answers() {
        let done = |results: &[(&str, &str)]| {
            let owned = results.iter().map(|(name, value)| ((*name).into(), (*value).into()));
            Ok(Answer::Done(owned.collect()))
        };
        check("<u:DoResponse xmlns:u=\"urn:s:1\"/>", &done(&[]));
        check(
            "<u:DoResponse xmlns:u=\"urn:s:1\"><NewA> 1 </NewA><NewB/></u:DoResponse>",
            &done(&[("NewA", "1"), ("NewB", "")]),
        );
        let fault = |inside: &str| {
            format!(
                "<s:Fault><detail><UPnPError xmlns=\"urn:schemas-upnp-org:control-1-0\">{inside}</UPnPError></detail></s:Fault>"
            )
        };
        check(
            &fault("<errorCode>718</errorCode><errorDescription>Conflict</errorDescription>"),
            &Ok(Answer::Fault { code: 718, text: "Conflict".into() }),
        );
        check(&fault("<errorCode>what</errorCode>"), &Err(Refusal::Lacks("an error code")));
        check("<s:Fault/>", &Err(Refusal::Lacks("an error code")));
        check("<OtherResponse/>", &Err(Refusal::Lacks("the response to the action")));
        check("<a>", &Err(Refusal::Malformed));
    }
}
