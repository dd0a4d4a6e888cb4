"""What clients see: both request forms, every refusal, the version and the metrics."""

import base64
import json

from scoring.page import Page

from tests.support import BAR, SEVEN, AppCase, drawn, images, png

UPPER = [16] * 32 + [0] * 32
LOWER = [0] * 32 + [16] * 32


class Scoring(AppCase):
    def setUp(self) -> None:
        super().setUp()
        self.give_model()
        self.http = self.client(max_images=3, max_body=100_000)

    def score(self, body: object) -> list[dict[str, object]]:
        answer = self.http.post("/score", json=body)
        self.assertEqual(answer.status_code, 200, answer.text)
        return answer.json["predictions"]

    def assert_refused(self, body: object, *words: str, status: int = 400) -> None:
        answer = self.http.post("/score", **({"data": body} if isinstance(body, bytes) else {"json": body}))
        self.assertEqual(answer.status_code, status, answer.text)
        self.assertEqual(answer.content_type, "application/json")
        self.assertEqual(answer.json["status"], status)
        for word in words:
            self.assertIn(word, answer.json["error"])

    def test_instances(self) -> None:
        rows = [UPPER, [LOWER[n : n + 8] for n in range(0, 64, 8)]]
        up, down = self.score({"instances": rows})
        self.assertEqual((up["label"], down["label"]), ("0", "1"))
        self.assertAlmostEqual(up["probability"], 1 / (1 + 2.718281828**-8), places=4)
        self.assertEqual(up["probability"], up["probabilities"]["0"])
        self.assertAlmostEqual(sum(up["probabilities"].values()), 1, places=5)

    def test_images(self) -> None:
        heavy_top, even = drawn(SEVEN), drawn(BAR)
        first, second = self.score(images(png(heavy_top), png(even.convert("RGB"), "JPEG")))
        self.assertEqual(first["label"], "0")
        self.assertAlmostEqual(second["probability"], 0.5, places=1)

    def test_the_same_picture_in_other_clothes(self) -> None:
        encoded = png(drawn(SEVEN))
        expected = self.score(images(encoded))
        self.assertEqual(self.score({"input": [encoded]}), expected)
        self.assertEqual(self.score(images("data:image/png;base64," + encoded)), expected)
        self.assertEqual(
            self.score(images("\n".join(encoded[n : n + 76] for n in range(0, len(encoded), 76)))), expected
        )
        bare = self.http.post("/score", data=json.dumps(images(encoded)))  # without a content type
        self.assertEqual(bare.json["predictions"], expected)

    def test_every_answer_names_the_release(self) -> None:
        answer = self.http.post("/score", json={"instances": [UPPER]}).json
        version = self.http.get("/version").json
        expected = {"name": "tiny", "version": "v3", "digest": "sha256:" + "d" * 64}
        self.assertEqual(version, {"commit": "c" * 40, "model": expected})
        self.assertEqual((answer["commit"], answer["model"]), ("c" * 40, expected))

    def test_bodies_that_are_no_request(self) -> None:
        for body in (b"", b"{", b"\xff\xfe", b'{"input": '):
            self.assert_refused(body, "base64 image")
        for body in ([], "text", {}, {"inputs": []}, {"input": "[]", "instances": []}):
            self.assert_refused(body, "base64 image")

    def test_bad_images(self) -> None:
        good = png(drawn(SEVEN))
        self.assert_refused({"input": "no list"}, "JSON list")
        self.assert_refused({"input": "[]"}, "at least one")
        self.assert_refused({"input": '{"a": 1}'}, "must be a list")
        self.assert_refused({"input": [good, 5]}, "input[1]", "base64")
        self.assert_refused({"input": [good, "%%%"]}, "input[1] is not base64")
        self.assert_refused({"input": ["abc"]}, "input[0] is not base64")
        self.assert_refused({"input": [base64.b64encode(b"hello").decode()]}, "not a PNG or JPEG")
        self.assert_refused({"input": [good[: len(good) // 2 // 4 * 4]]}, "input[0]", "image")
        self.assert_refused({"input": [png(drawn([(0, 0), (1, 1)], pen=400))]}, "blank")

    def test_bad_instances(self) -> None:
        self.assert_refused({"instances": [UPPER, [0] * 63]}, "instances[1]", "63 numbers")
        self.assert_refused({"instances": [[[0] * 8] * 7]}, "7 x 8")
        self.assert_refused({"instances": [[[0] * 8] * 7 + [[0] * 9]]}, "different lengths")
        self.assert_refused({"instances": UPPER[:1]}, "instances[0]")
        self.assert_refused({"instances": [["0"] * 64]}, "not a number")
        self.assert_refused({"instances": [[True] * 64]}, "not a number")
        self.assert_refused({"instances": [[None] * 64]}, "not a number")
        self.assert_refused({"instances": [[17] * 64]}, "0..16")
        self.assert_refused({"instances": [[-1] * 64]}, "0..16")
        self.assert_refused(b'{"instances": [[' + b"NaN," * 63 + b"0]]}", "0..16")

    def test_too_much(self) -> None:
        self.assert_refused({"instances": [UPPER] * 4}, "at most 3")
        self.assert_refused(b"x" * 100_001, "100,000 bytes", status=413)

    def test_other_addresses_and_methods(self) -> None:
        missing = self.http.get("/nowhere")
        self.assertEqual((missing.status_code, missing.json["status"]), (404, 404))
        wrong = self.http.get("/score")
        self.assertEqual(wrong.status_code, 405)
        self.assertIn("POST", wrong.headers["Allow"])

    def test_metrics_count_requests_and_labels(self) -> None:
        self.score({"instances": [UPPER, UPPER, LOWER]})
        self.assert_refused({})
        self.http.get("/nowhere")
        self.http.open("/score", method="BREW")
        text = self.http.get("/metrics").text
        for line in (
            'app_requests_total{endpoint="score",method="POST",status="200"} 1.0',
            'app_requests_total{endpoint="score",method="POST",status="400"} 1.0',
            'app_requests_total{endpoint="none",method="GET",status="404"} 1.0',
            'app_predictions_total{label="0"} 2.0',
            'app_predictions_total{label="1"} 1.0',
            'app_request_seconds_count{endpoint="score"} 2.0',
            "app_model_ready 1.0",
        ):
            self.assertIn(line, text)
        self.assertRegex(
            text,
            r'app_release_info\{commit="c+",model="tiny",model_digest="sha256:d+",model_version="v3"\} 1.0',
        )
        self.assertNotIn("BREW", text)

    def test_two_apps_do_not_share_counters(self) -> None:
        self.score({"instances": [UPPER]})
        self.assertNotIn("app_predictions_total{", self.client().get("/metrics").text)

    def test_the_page_is_one_file_that_loads_nothing_from_elsewhere(self) -> None:
        answer = self.http.get("/")
        self.assertEqual(answer.status_code, 200)
        self.assertIn("default-src 'none'", answer.headers["Content-Security-Policy"])
        self.assertNotIn("/*style*/", answer.text)
        self.assertNotIn("/*script*/", answer.text)
        for outside in ("https://", "src=", "@import"):
            self.assertNotIn(outside, answer.text)
        self.assertEqual(answer.text, Page().html)
