//! From an AWS error to its public name.

use std::{error::Error as StdError, fmt};

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use lambda_runtime::Diagnostic;
use shipway_domain::failure::Failure;

/// An error that a machine and a person can act on: it knows its public name, and its `Display` says what was wrong, where,
/// and what to do.
pub trait PublicError: StdError {
    /// The public name.
    fn failure(&self) -> Failure;
}

/// What the machine sees of an error.
pub(crate) fn diagnostic(error: &dyn PublicError) -> Diagnostic {
    Diagnostic { error_type: error.failure().name().to_owned(), error_message: with_sources(error) }
}

/// An error with what caused it, in one line.
pub fn with_sources(error: &(dyn StdError + '_)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// A call that AWS refused or could not answer.
#[derive(Clone, Debug)]
pub struct AwsError {
    call: &'static str,
    code: Option<String>,
    message: String,
    failure: Failure,
}

impl AwsError {
    /// For `map_err`: names the call (`ecs:UpdateService`), keeps code and message, and decides the public name.
    pub fn of<E>(call: &'static str) -> impl FnOnce(SdkError<E, HttpResponse>) -> AwsError
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        move |error| {
            let answered = error.as_service_error();
            let code = answered.and_then(|e| e.code()).map(str::to_owned);
            let message = match answered.and_then(|e| e.message()) {
                Some(message) => message.to_owned(),
                None => with_sources(&Printed(&error)),
            };
            let failed = error.raw_response().is_some_and(|answer| answer.status().is_server_error());
            let failure = match (&error, &code) {
                (SdkError::ServiceError(_), Some(code)) => match classify(code) {
                    // Each service has codes of its own for trouble of its own. Whether it acted nobody knows.
                    Failure::Bug if failed => Failure::Transient,
                    known => known,
                },
                (SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_), _) => {
                    Failure::Transient
                }
                // An answer without a code is a gateway's, not the service's.
                (SdkError::ServiceError(_), None) => Failure::Transient,
                _ => Failure::Bug,
            };
            AwsError { call, code, message, failure }
        }
    }

    /// What an answer that is a success otherwise says of one thing that it could not do.
    pub fn in_answer(call: &'static str, code: &str, message: &str) -> AwsError {
        AwsError { call, code: Some(code.to_owned()), message: message.to_owned(), failure: classify(code) }
    }

    /// An answer whose body broke off on the way.
    pub fn broken_off(call: &'static str, error: &(dyn StdError + '_)) -> AwsError {
        AwsError { call, code: None, message: with_sources(error), failure: Failure::Transient }
    }

    /// The call, named as the right that it needs: `ecs:UpdateService`.
    pub fn call(&self) -> &'static str {
        self.call
    }

    /// AWS's own code, like `ServiceNotActiveException`.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// Whether AWS's own code is this one.
    pub fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// AWS's own message.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for AwsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) => write!(f, "{} answered {code}: {}", self.call, self.message)?,
            None => write!(f, "{} got no answer: {}", self.call, self.message)?,
        }
        match self.failure {
            Failure::Denied => f.write_str("; the function's role must allow it"),
            Failure::Quota => f.write_str("; ask for a higher quota or free some, then start the execution again"),
            _ => Ok(()),
        }
    }
}

impl StdError for AwsError {}

impl PublicError for AwsError {
    fn failure(&self) -> Failure {
        self.failure
    }
}

/// The public name of an error that AWS gave this code. Codes are the services' own, with and without `Exception`.
pub fn classify(code: &str) -> Failure {
    let code = code.strip_suffix("Exception").unwrap_or(code);
    match code {
        "AccessDenied"
        | "AccessDeniedFault"
        | "UnauthorizedOperation"
        | "AuthFailure"
        | "NotAuthorized"
        | "UnrecognizedClient"
        | "InvalidClientTokenId"
        | "ExpiredToken"
        | "SignatureDoesNotMatch" => Failure::Denied,
        "Throttling"
        | "Throttled"
        | "EC2Throttled"
        | "RequestLimitExceeded"
        | "TooManyRequests"
        | "SlowDown"
        | "ProvisionedThroughputExceeded"
        | "RequestThrottled"
        | "BandwidthLimitExceeded"
        | "LimitExceededOnRate"
        | "InternalServerError"
        | "InternalError"
        | "InternalFailure"
        | "InternalServer"
        | "Server"
        | "ServiceUnavailable"
        | "Unavailable"
        | "RequestTimeout"
        | "TransactionInProgress"
        | "Transaction"
        | "TransactionConflict" => Failure::Transient,
        _ if code.ends_with("LimitExceeded")
            || code.ends_with("QuotaExceeded")
            || code.ends_with("LimitExceededFault")
            || code.starts_with("TooMany") =>
        {
            Failure::Quota
        }
        "ResourceInUse" | "ResourceExists" | "AlreadyExists" | "Conflict" | "OperationInProgress" | "InvalidState" => {
            Failure::Conflict
        }
        _ => Failure::Bug,
    }
}

/// Lets an SDK error be walked for its sources whatever its parameters are.
struct Printed<'a, E>(&'a SdkError<E, HttpResponse>);

impl<E> fmt::Debug for Printed<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SdkError")
    }
}

impl<E> fmt::Display for Printed<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            SdkError::ConstructionFailure(_) => "the request could not be built",
            SdkError::TimeoutError(_) => "the request timed out",
            SdkError::DispatchFailure(_) => "the connection failed",
            SdkError::ResponseError(_) => "the answer could not be read",
            SdkError::ServiceError(_) => "the service refused without saying why",
            _ => "unknown failure",
        })
    }
}

impl<E: StdError + 'static> StdError for Printed<'_, E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self.0 {
            SdkError::DispatchFailure(failure) => failure.as_connector_error().map(|e| e as &(dyn StdError + 'static)),
            SdkError::ServiceError(context) => Some(context.err()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::error::{ConnectorError, ErrorMetadata};
    use aws_smithy_types::body::SdkBody;

    use super::*;

    #[test]
    fn codes_get_the_name_that_says_whether_a_retry_helps() {
        let table = [
            ("AccessDeniedException", Failure::Denied),
            ("UnauthorizedOperation", Failure::Denied),
            ("ThrottlingException", Failure::Transient),
            ("RequestLimitExceeded", Failure::Transient),
            ("ProvisionedThroughputExceededException", Failure::Transient),
            ("ServiceUnavailable", Failure::Transient),
            ("EC2ThrottledException", Failure::Transient),
            ("ServerException", Failure::Transient),
            ("VpcLimitExceeded", Failure::Quota),
            ("ServiceQuotaExceededException", Failure::Quota),
            ("LimitExceededException", Failure::Quota),
            ("TooManyDistributions", Failure::Quota),
            ("ResourceInUseException", Failure::Conflict),
            ("ValidationException", Failure::Bug),
        ];
        for (code, failure) in table {
            assert_eq!(classify(code), failure, "{code}");
        }
    }

    fn of(error: SdkError<ErrorMetadata, HttpResponse>) -> AwsError {
        AwsError::of("ec2:CreateVpc")(error)
    }

    fn answer(status: u16) -> HttpResponse {
        HttpResponse::new(status.try_into().unwrap(), SdkBody::empty())
    }

    fn coded(code: &str, status: u16) -> AwsError {
        of(SdkError::service_error(ErrorMetadata::builder().code(code).build(), answer(status)))
    }

    #[test]
    fn a_timeout_a_reset_and_half_an_answer_are_no_answer_and_a_retry_helps() {
        let reset = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let lost = [
            SdkError::timeout_error("5 s are over"),
            SdkError::dispatch_failure(ConnectorError::io(reset().into())),
            SdkError::dispatch_failure(ConnectorError::timeout("3.1 s are over".into())),
            SdkError::response_error(reset(), answer(200)),
            // A gateway's, which no service gave a code.
            SdkError::service_error(ErrorMetadata::builder().build(), answer(502)),
        ];
        for error in lost.map(of) {
            assert_eq!((error.failure(), error.code()), (Failure::Transient, None), "{error}");
        }
    }

    #[test]
    fn an_answer_of_5xx_is_the_services_own_trouble_whatever_its_code() {
        for code in ["InternalError", "InternalServiceException", "ServiceFailure", "InsufficientAddressCapacity"] {
            assert_eq!(coded(code, 500).failure(), Failure::Transient, "{code}");
        }
        assert_eq!(coded("NeverHeardOf", 400).failure(), Failure::Bug);
        // A known code says more.
        assert_eq!(coded("VpcLimitExceeded", 503).failure(), Failure::Quota);
    }

    #[test]
    fn throttling_is_known_by_each_services_code_and_its_status() {
        let throttled =
            [("RequestLimitExceeded", 503), ("Throttling", 400), ("ThrottlingException", 400), ("SlowDown", 503)];
        for (code, status) in throttled {
            assert_eq!(coded(code, status).failure(), Failure::Transient, "{code}");
        }
    }
}
