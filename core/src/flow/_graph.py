"""validate_graph"""


class Finding: ...


class ValidationReport: ...
