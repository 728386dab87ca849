"""The errors of Headrace. Each message names the thing, its value and the cure."""

from __future__ import annotations


class HeadraceError(Exception):
    """Something a user or an operator can mend; the message says how."""


class InvalidSetting(HeadraceError):
    """A setting is unknown, or its value cannot be used."""


class UnknownModel(HeadraceError):
    """No model has this id."""


class InvalidEvent(HeadraceError):
    """An event is wrong in itself: no retry will make it right.

    `field` is the name of the field at fault, or "" when the whole record is.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason


class InvalidItem(InvalidEvent):
    """A catalogue item is wrong in itself."""


class InvalidToken(InvalidEvent):
    """What is to name an event's place in the log does not."""


class TooManyHidden(HeadraceError):
    """A user has hidden as many items as there may be."""


class InvalidErasure(InvalidEvent):
    """A record of the topic of erasures is wrong in itself."""


class InvalidImpression(InvalidEvent):
    """A record of the topic of impressions is wrong in itself."""


class InvalidFilter(InvalidEvent):
    """A request's filter on items is wrong in itself."""


class InvalidCursor(InvalidEvent):
    """A request's cursor is none that an answer gave."""


class ArtifactInvalid(HeadraceError):
    """A model version on disk is damaged, incomplete, or not what its manifest says."""


class ArchiveInvalid(HeadraceError):
    """A file of the archive is damaged or missing, or the archive cannot be used as it is."""


class TooFewEvents(HeadraceError):
    """There is not enough data to train on."""


class TaskNotFound(HeadraceError):
    """No task has this id."""


class VersionNotFound(HeadraceError):
    """No version of this model has this name."""


class ChangeRefused(HeadraceError):
    """A version cannot go live, be pinned or be deleted as things stand.

    `why` is one word of `headrace/change_version.lua`: pinned, changed, gone, live, …
    """

    def __init__(self, why: str, reason: str) -> None:
        super().__init__(reason)
        self.why = why


class Away(HeadraceError):
    """Something does not answer for now; another attempt may do better."""


class KafkaUnavailable(Away):
    """Kafka cannot be reached, or has stopped answering."""


class StoreUnavailable(Away):
    """The place where versions are kept cannot be reached, or refuses."""


class StackError(HeadraceError):
    """The local stack cannot start or go on."""


class DataUnavailable(HeadraceError):
    """Sample data cannot be fetched, or is not what was expected."""


class NothingToTest(HeadraceError):
    """A benchmark's data are sound, but hold nothing that its protocol could ask for."""


class TrainingRefused(HeadraceError):
    """A training cannot be asked for now; what stands in the way may pass."""


class TooSoon(TrainingRefused):
    """A model was trained less than the shortest interval ago."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ModelDeleted(TrainingRefused):
    """The model was deleted, or is being deleted."""


class TaskEnded(HeadraceError):
    """A task cannot be cancelled any more."""
