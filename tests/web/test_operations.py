from stepup.domain.operations import SHIPPED
from stepup.web.operations import title_of
from stepup.web.texts import texts_of


def test_every_title_that_is_shipped_is_translated():
    german = texts_of(["de"])
    for category, operations in SHIPPED:
        for title in (category.title, *(each.title for each in operations)):
            assert title_of(german, title) != title, title


def test_s21_a_title_of_an_operator_is_no_markup():
    assert not hasattr(title_of(texts_of(["de"]), "<script>"), "__html__")
