"""Exceptions of other libraries and of Python by name, and what sort of failure each is.

Names, so that none of these libraries has to be installed or imported to recognise what it raises. A class is found by
the first part of its module and its own name; what is not listed is found through the class it derives from. Responses
with an HTTP status need no entry: the status says it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .errors import ErrorCategory

_BUILTINS = {
    ErrorCategory.TIMEOUT: "TimeoutError",
    ErrorCategory.NETWORK: "ConnectionError",
    ErrorCategory.RESOURCE: "MemoryError BlockingIOError",
    ErrorCategory.AUTHENTICATION: "PermissionError",
    # Mistakes in the program: the next attempt would fail in the same way.
    ErrorCategory.CONFIGURATION: "TypeError NameError ImportError NotImplementedError SyntaxError",
    ErrorCategory.EXTERNAL_SERVICE: "OSError",
    ErrorCategory.DATA: "LookupError ArithmeticError UnicodeError",
}

_HTTPX = {
    ErrorCategory.TIMEOUT: "TimeoutException",
    ErrorCategory.RESOURCE: "PoolTimeout ConnectionNotAvailable",
    ErrorCategory.NETWORK: "TransportError NetworkError ProtocolError ProxyError RequestError",
    ErrorCategory.CONFIGURATION: "UnsupportedProtocol InvalidURL CookieConflict LocalProtocolError StreamError",
    ErrorCategory.DATA: "DecodingError",
    ErrorCategory.EXTERNAL_SERVICE: "TooManyRedirects HTTPError",
}

_MODEL_CLIENT = {  # openai and anthropic are generated from one mould
    ErrorCategory.TIMEOUT: "APITimeoutError DeadlineExceededError",
    ErrorCategory.NETWORK: "APIConnectionError",
    ErrorCategory.RATE_LIMIT: "RateLimitError",
    ErrorCategory.AUTHENTICATION: "AuthenticationError PermissionDeniedError",
    ErrorCategory.RESOURCE: "ConflictError",
    ErrorCategory.DATA: (
        "BadRequestError UnprocessableEntityError RequestTooLargeError APIResponseValidationError "
        "LengthFinishReasonError ContentFilterFinishReasonError"
    ),
    ErrorCategory.CONFIGURATION: "NotFoundError OpenAIError AnthropicError",
    ErrorCategory.EXTERNAL_SERVICE: (
        "APIError APIStatusError InternalServerError ServiceUnavailableError OverloadedError"
    ),
}

_BY_LIBRARY: Mapping[str, Mapping[ErrorCategory, str]] = {
    "builtins": _BUILTINS,
    "asyncio": {
        ErrorCategory.CANCELLED: "CancelledError",
        ErrorCategory.NETWORK: "IncompleteReadError",
        ErrorCategory.RESOURCE: "QueueFull",
    },
    "socket": {ErrorCategory.NETWORK: "gaierror herror"},
    "ssl": {ErrorCategory.CONFIGURATION: "SSLCertVerificationError", ErrorCategory.NETWORK: "SSLError"},
    "json": {ErrorCategory.DATA: "JSONDecodeError"},
    "http": {ErrorCategory.NETWORK: "HTTPException", ErrorCategory.CONFIGURATION: "InvalidURL"},
    "urllib": {ErrorCategory.NETWORK: "URLError"},
    "pydantic_core": {ErrorCategory.DATA: "ValidationError"},
    "httpx": _HTTPX,
    "httpx2": _HTTPX,
    "httpcore": _HTTPX,
    "httpcore2": _HTTPX,
    "aiohttp": {
        ErrorCategory.TIMEOUT: "ServerTimeoutError",
        ErrorCategory.NETWORK: "ClientError ClientConnectionError ClientPayloadError",
        ErrorCategory.CONFIGURATION: "InvalidURL ClientConnectorCertificateError",
        ErrorCategory.DATA: "ContentTypeError",
        ErrorCategory.EXTERNAL_SERVICE: "ClientResponseError TooManyRedirects",
    },
    "requests": {
        ErrorCategory.TIMEOUT: "Timeout ConnectTimeout",
        ErrorCategory.NETWORK: "RequestException ConnectionError ProxyError ChunkedEncodingError",
        ErrorCategory.CONFIGURATION: (
            "SSLError URLRequired MissingSchema InvalidSchema InvalidURL InvalidHeader UnrewindableBodyError"
        ),
        ErrorCategory.DATA: "InvalidJSONError JSONDecodeError ContentDecodingError",
        ErrorCategory.EXTERNAL_SERVICE: "HTTPError TooManyRedirects RetryError",
    },
    "urllib3": {
        ErrorCategory.TIMEOUT: "TimeoutError",
        ErrorCategory.NETWORK: "HTTPError NewConnectionError ProtocolError ProxyError",
        ErrorCategory.RESOURCE: "PoolError EmptyPoolError FullPoolError ClosedPoolError",
        ErrorCategory.CONFIGURATION: "SSLError LocationValueError",
        ErrorCategory.DATA: "DecodeError",
    },
    "openai": _MODEL_CLIENT,
    "anthropic": _MODEL_CLIENT,
    "google": {  # google.genai, google.api_core, google.auth
        ErrorCategory.TIMEOUT: "DeadlineExceeded RetryError",
        ErrorCategory.NETWORK: "TransportError",
        ErrorCategory.RATE_LIMIT: "ResourceExhausted TooManyRequests",
        ErrorCategory.AUTHENTICATION: "GoogleAuthError Unauthenticated Unauthorized PermissionDenied Forbidden",
        ErrorCategory.EXTERNAL_SERVICE: "APIError GoogleAPIError ServerError",
        ErrorCategory.DATA: "ClientError InvalidArgument UnknownApiResponseError UnknownFunctionCallArgumentError",
        ErrorCategory.CONFIGURATION: "FunctionInvocationError UnsupportedFunctionError NotFound",
    },
    "pydantic_ai": {
        ErrorCategory.TIMEOUT: "ModelTimeoutError ModelRequestTimeout RunTimedOut",
        ErrorCategory.NETWORK: "ModelConnectionError",
        ErrorCategory.RATE_LIMIT: "ModelRateLimitError",
        ErrorCategory.AUTHENTICATION: "ModelAuthenticationError",
        ErrorCategory.RESOURCE: "ConcurrencyLimitExceeded",
        ErrorCategory.EXTERNAL_SERVICE: "AgentRunError ModelAPIError ModelUnavailableError ModelServerError",
        ErrorCategory.USAGE: "UsageLimitExceeded ModelQuotaExceededError",
        ErrorCategory.CONFIGURATION: "UserError ModelNotFoundError",
        ErrorCategory.DATA: (
            "UnexpectedModelBehavior ModelRequestRejectedError ModelContextWindowExceededError ModelRetry "
            "ToolRetryError ToolFailed ToolFailedError"
        ),
        ErrorCategory.CANCELLED: "RunCancelled",
    },
}


def _entries() -> Iterator[tuple[tuple[str, str], ErrorCategory]]:
    for library, categories in _BY_LIBRARY.items():
        for category, names in categories.items():
            yield from (((library, name), category) for name in names.split())


KNOWN_ERRORS: Mapping[tuple[str, str], ErrorCategory] = dict(_entries())
"""Category by (first part of the module, class name)."""
