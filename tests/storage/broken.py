"""Broken storages, one for each rule of the contract."""

import fnmatch
import threading

from tests.storage.plain import Data, PlainStorage

RULES = {}
"""By rule: the broken storage that it catches, and the rule's parameters."""


def caught_by(rule, **parameters):
    def note(kind):
        RULES[rule] = (kind, parameters)
        return kind

    return note


# Reading


@caught_by("test_a_new_storage_is_empty")
class StartsFull(PlainStorage):
    def __init__(self, data, **options):
        data.texts["doc/already"] = "here"
        super().__init__(data, **options)


@caught_by("test_a_document_is_read_by_its_key")
class ReadsWhatIsAbsent(PlainStorage):
    def read(self, keys):
        return dict.fromkeys(keys, "") | super().read(keys)


@caught_by("test_many_documents_of_many_places_are_read_at_once")
class ReadsTheFirst500(PlainStorage):
    def read(self, keys):
        return super().read(keys[:500])


@caught_by("test_nothing_is_asked_and_nothing_changed")
class TakesNoPairForAll(PlainStorage):
    def listings(self, of=None, *, prefix=""):
        return super().listings(of or None, prefix=prefix)


@caught_by("test_a_document_is_kept_as_it_is")
class MakesNumbers(PlainStorage):
    """Turns texts into numbers, like an SQLite column without a type."""

    def put(self, key, value):
        super().put(key, value)
        if self.data.texts[key].isdigit():
            self.data.texts[key] = str(float(self.data.texts[key]))


@caught_by("test_a_big_document_is_kept_whole")
class CutsTexts(PlainStorage):
    def put(self, key, value):
        super().put(key, value[:65535])


class ReadsNeighbours(PlainStorage):
    """Reads `"a/" <= key <= "a0"`, which is one key too many."""

    def found(self, key):
        if not key.endswith("/"):
            return super().found(key)
        return [each for each in self.data.texts if key <= each <= key[:-1] + "0"]


caught_by("test_a_slash_reads_all_below_where_the_storage_is_ordered")(ReadsNeighbours)
caught_by("test_a_slash_drops_all_below_and_no_neighbour", dropped="page/a/")(ReadsNeighbours)


@caught_by("test_documents_of_a_place_are_read_at_one_moment")
class ShowsTheHalfOfAChange(PlainStorage):
    """Lets others read after each document that it puts."""

    def read(self, keys):
        found = super().read(keys)
        self.data.was_read.set()
        return found

    def put(self, key, value):
        super().put(key, value)
        if threading.active_count() > self.data.threads:
            self.data.lock.release()
            self.data.was_read.clear()
            self.data.was_read.wait(5)
            self.data.lock.acquire()


# Keys


@caught_by("test_all_keys_are_listed")
class ListsTheFirst1000(PlainStorage):
    def keys(self, prefix=""):
        return iter(list(super().keys(prefix))[:1000])


@caught_by("test_keys_are_listed_by_what_they_begin_with")
class ListsByAPattern(PlainStorage):
    def keys(self, prefix=""):
        return iter([each for each in super().keys("") if fnmatch.fnmatchcase(each, f"{prefix}*")])


@caught_by("test_foreign_keys_are_kept_and_listed")
class ListsOursAlone(PlainStorage):
    def keys(self, prefix=""):
        return iter([each for each in super().keys(prefix) if each.startswith(("doc/", "page/"))])


@caught_by("test_no_key_is_taken_for_another")
class FoldsCase(PlainStorage):
    def put(self, key, value):
        super().put(key.lower(), value)


@caught_by("test_no_key_is_missed_while_others_write")
class ListsByNumber(PlainStorage):
    """Lists keys by `LIMIT 100 OFFSET n`."""

    def keys(self, prefix=""):
        n = 0
        while found := sorted(super().keys(prefix))[n : n + 100]:
            yield from found
            n += len(found)


@caught_by("test_namespaces_lie_beside_plain_keys")
class KnowsNoNamespace(PlainStorage):
    def put(self, key, value):
        super().put(key.removeprefix("namespace/n/"), value)


# Comparing


@caught_by("test_a_change_is_applied_where_the_document_begins_as_expected", expected="the t", applied=True)
class ComparesTheWhole(PlainStorage):
    def begins(self, key, start):
        return self.data.texts.get(key) == start


@caught_by("test_a_change_may_expect_that_there_is_no_document", expected="", applied=False)
class TakesNoneForAnything(PlainStorage):
    def begins(self, key, start):
        return not start or super().begins(key, start)


@caught_by("test_an_empty_document_is_a_document")
class TakesEmptyForAbsent(PlainStorage):
    def begins(self, key, start):
        text = self.data.texts.get(key)
        return not text if start is None else bool(text) and text.startswith(start)


@caught_by("test_any_text_may_be_expected", text="[b]{a}%2F_*?")
class ComparesByAPattern(PlainStorage):
    def begins(self, key, start):
        text = self.data.texts.get(key)
        return text is None if start is None else text is not None and fnmatch.fnmatchcase(text, f"{start}*")


@caught_by("test_all_expectations_must_hold")
class ComparesTheFirstAlone(PlainStorage):
    def apply(self, change):
        return super().apply(change._replace(expect=change.expect[:1]))


@caught_by("test_a_refused_change_leaves_all_as_it_was")
class ListsBeforeItCompares(PlainStorage):
    def apply(self, change):
        for each in change.lists:
            self.move(each)
        return super().apply(change)


@caught_by("test_of_several_changes_a_refused_one_refuses_no_other")
class StopsAtTheFirstRefusal(PlainStorage):
    def write(self, changes):
        refused = False
        answers = []
        for each in changes:
            refused = refused or not super().write([each])[0]
            answers.append(not refused)
        return answers


@caught_by("test_of_changes_that_expect_the_same_the_first_is_applied")
class ComparesBeforeItApplies(PlainStorage):
    """Compares all changes first, then applies all that hold."""

    def write(self, changes):
        held = [all(self.begins(*expected) for expected in each.expect) for each in changes]
        return [
            holds and self.apply(each._replace(expect=(), done=None)) for each, holds in zip(changes, held, strict=True)
        ]


# Repeating


@caught_by("test_a_change_that_is_written_again_counts_as_applied")
class KnowsNoRepetition(PlainStorage):
    def apply(self, change):
        return super().apply(change._replace(done=None))


@caught_by("test_a_change_that_is_written_again_changes_nothing")
class AppliesAgain(PlainStorage):
    def apply(self, change):
        if change.done is not None and self.begins(change.expect[0][0], change.done):
            change = change._replace(done=None, expect=[])
        return super().apply(change)


@caught_by("test_done_is_sought_in_the_first_expected_document_alone")
class SeeksDoneEverywhere(PlainStorage):
    def apply(self, change):
        done = change.done is not None and any(self.begins(key, change.done) for key, _ in change.expect)
        return done or super().apply(change)


@caught_by("test_a_deletion_that_is_written_again_is_refused")
class TakesAbsentForDeleted(PlainStorage):
    def apply(self, change):
        gone = [key for key, _ in change.expect if key not in self.data.texts and key in change.drop]
        return bool(gone) or super().apply(change)


# Dropping


@caught_by("test_put_and_drop_are_done_in_order")
class DropsBeforeItPuts(PlainStorage):
    def apply(self, change):
        return super().apply(change._replace(put=())) and super().apply(change._replace(drop=(), expect=()))


@caught_by("test_a_key_that_is_not_there_can_be_dropped")
class WantsWhatItDrops(PlainStorage):
    def found(self, key):
        return super().found(key) if key.endswith("/") else [key]

    def read(self, keys):
        return {key: self.data.texts[key] for key in keys if key in self.data.texts}


@caught_by("test_all_below_is_dropped_however_much_it_is")
class FindsTheFirst1000(PlainStorage):
    def found(self, key):
        return super().found(key)[:1000]


@caught_by("test_what_was_read_can_be_put_as_it_is")
class WrapsWhatWasRead(PlainStorage):
    def put(self, key, value):
        super().put(key, repr(value) if isinstance(value, str) else value)


@caught_by("test_a_place_lives_on_whatever_is_asked_of_it", lives=3_600_000)
class ForgetsAtOnce(PlainStorage):
    def apply(self, change):
        return super().apply(change._replace(drop=[key for key, _ in change.put]) if change.lives else change)


# Lists


@caught_by("test_a_list_that_nobody_wrote_is_empty")
class WantsAList(PlainStorage):
    def members(self, name):
        return self.data.lists[name]


@caught_by("test_members_stand_in_the_order_of_their_scores")
class RoundsScores(PlainStorage):
    """Keeps scores as 32-bit floats."""

    def move(self, listing):
        new = listing.new
        super().move(listing._replace(new=new if new is None or abs(new) < 2**24 else new >> 24 << 24))


@caught_by("test_members_of_one_score_stand_in_their_own_order")
class OrdersByTheScoreAlone(PlainStorage):
    def scan(self, name, after=None, limit=100, *, newest_first=False):
        found = sorted(self.members(name).items(), key=lambda each: each[1], reverse=newest_first)
        found = [(score, member) for member, score in found]
        return found[found.index(after) + 1 if after in found else 0 :][:limit]


@caught_by("test_a_scan_begins_after_a_position", newest_first=True)
class BeginsAtThePosition(PlainStorage):
    def scan(self, name, after=None, limit=100, *, newest_first=False):
        if after is not None and newest_first:
            after = (after[0], after[1] + chr(0))
        return super().scan(name, after, limit, newest_first=newest_first)


@caught_by("test_a_scan_returns_a_hundred_positions_if_not_told_otherwise")
class ScansTheWhole(PlainStorage):
    def scan(self, name, after=None, limit=None, *, newest_first=False):
        return super().scan(name, after, limit, newest_first=newest_first)


class TrustsTheHint(PlainStorage):
    """Removes a member only at the old score that the change names."""

    def move(self, listing):
        members = self.data.lists.setdefault(listing.list, set())
        members.discard((listing.old, listing.member))
        if listing.new is not None:
            members.add((listing.new, listing.member))

    def scan(self, name, after=None, limit=100, *, newest_first=False):
        found = sorted(self.data.lists.get(name, ()), reverse=newest_first)
        return [each for each in found if after is None or (each < after if newest_first else each > after)][:limit]

    def listings(self, of=None, *, prefix=""):
        lists = {name: members for name, members in self.data.lists.items() if name.startswith(prefix)}
        found = [(name, member, score) for name, members in lists.items() for score, member in members]
        return iter(found if of is None else [each for each in found if each[:2] in set(of)])


caught_by("test_a_member_stands_at_its_latest_score", hint="wrong")(TrustsTheHint)
caught_by("test_a_member_is_taken_out_of_a_list", old=99)(TrustsTheHint)
caught_by("test_it_behaves_as_dicts")(TrustsTheHint)


@caught_by("test_a_list_changes_without_a_document")
class ListsWithDocumentsAlone(PlainStorage):
    def apply(self, change):
        return super().apply(change if change.put or change.drop else change._replace(lists=()))


@caught_by("test_what_is_not_listed_can_be_taken_out")
class WantsWhatItTakesOut(PlainStorage):
    def move(self, listing):
        if listing.new is None:
            del self.data.lists[listing.list][listing.member]
        else:
            super().move(listing)


@caught_by("test_no_member_and_no_list_is_taken_for_another")
class CutsMembers(PlainStorage):
    def move(self, listing):
        super().move(listing._replace(member=listing.member[:255]))


@caught_by("test_lists_are_told_of_given_members_alone")
class TellsOfAllMembers(PlainStorage):
    def listings(self, of=None, *, prefix=""):
        names = None if of is None else {name for name, _ in of}
        return iter([each for each in super().listings(prefix=prefix) if names is None or each[0] in names])


@caught_by("test_lists_are_told_by_what_their_names_begin_with")
class TellsListsByAPattern(PlainStorage):
    def listings(self, of=None, *, prefix=""):
        found = super().listings(of)
        return iter([each for each in found if fnmatch.fnmatchcase(each[0].lower(), f"{prefix.lower()}*")])


@caught_by("test_lists_of_a_namespace_are_others")
class ListsNoNamespace(PlainStorage):
    def move(self, listing):
        super().move(listing._replace(list=listing.list.removeprefix("namespace/n/")))


# Sharing


@caught_by("test_two_storages_see_each_others_writes_at_once")
class RemembersCounts(PlainStorage):
    """Caches counts until its own next write."""

    def __init__(self, data, **options):
        super().__init__(data, **options)
        self.counts = {}

    def write(self, changes):
        self.counts.clear()
        return super().write(changes)

    def count(self, name):
        return self.counts.setdefault(name, super().count(name))


@caught_by("test_what_was_written_is_there_when_it_is_opened_again")
class ForgetsListsAtTheEnd(PlainStorage):
    def __init__(self, data, **options):
        super().__init__(data, **options)
        self.data = Data()
        self.data.lock, self.data.texts = data.lock, data.texts


@caught_by("test_of_two_writers_of_one_place_one_is_first")
class ComparesBeforeItLocks(PlainStorage):
    """Compares before it takes the lock, so that two writers can both succeed."""

    def write(self, changes):
        answers = [all(self.begins(key, start) for key, start in each.expect) for each in changes]
        if threading.active_count() > self.data.threads:
            self.data.two.wait(5)
        super().write(
            [each._replace(expect=(), done=None) for each, fits in zip(changes, answers, strict=True) if fits]
        )
        return answers


@caught_by("test_no_change_of_many_writers_is_lost")
class SaysAppliedOfAll(PlainStorage):
    def write(self, changes):
        return [True for _ in super().write(changes)]


class KeepsNobodyOut(PlainStorage):
    """Its exclusive use excludes nobody."""

    def exclusive(self):
        return self.data.nothing


caught_by("test_no_other_writes_in_exclusive_use")(KeepsNobodyOut)
caught_by("test_what_is_written_in_exclusive_use_is_one_step")(KeepsNobodyOut)


@caught_by("test_exclusive_use_ends_with_an_error")
class StaysExclusive(PlainStorage):
    def __init__(self, data, timeout=0.1):
        super().__init__(data, timeout=0.1)

    def __exit__(self, kind, *rest):
        if kind is None:
            super().__exit__(kind, *rest)
        else:  # as if another thread had the lock
            self.timeout = 0
            self.data.lock = threading.Lock()
            self.data.lock.acquire()


@caught_by("test_a_wait_for_others_has_a_deadline")
class RaisesAnotherError(PlainStorage):
    def __enter__(self):
        if not self.data.lock.acquire(timeout=self.timeout):
            raise TimeoutError


@caught_by("test_a_closed_storage_says_so")
class IsNeverClosed(PlainStorage):
    def close(self):
        pass


@caught_by("test_a_closed_storage_closes_no_other")
class ClosesAll(PlainStorage):
    @property
    def closed(self):
        return self.data.closed

    @closed.setter
    def closed(self, closed):
        self.data.closed = self.data.closed or closed


@caught_by("test_mending_what_is_whole_changes_nothing")
class ForgetsWhenMended(PlainStorage):
    def mend(self):
        self.data.lists.clear()
