"""The model is tried out before anybody is told that the service is ready."""

import time
import unittest

from tests.support import NARROW, AppCase


class Readiness(AppCase):
    def test_ready_says_which_release(self) -> None:
        self.give_model()
        answer = self.client().get("/readyz")
        self.assertEqual(answer.status_code, 200)
        self.assertEqual(answer.json["model"]["version"], "v3")

    def test_alive_before_the_model_and_ready_after(self) -> None:
        client, loader = self.starting()
        self.assertEqual(client.get("/healthz").status_code, 200)
        before = client.get("/readyz")
        self.assertEqual(before.status_code, 503)
        self.assertTrue(before.json["reason"])
        self.assertEqual(client.post("/score", json={"instances": [[0] * 64]}).status_code, 503)
        self.give_model()
        self.assertTrue(loader.wait(240))
        self.assertEqual(client.get("/readyz").status_code, 200)

    def test_a_missing_folder_is_named(self) -> None:
        client, _ = self.starting(model_path=self.folder / "nowhere")
        end = time.monotonic() + 240
        while "looking again" not in (reason := client.get("/readyz").json["reason"]):
            self.assertLess(time.monotonic(), end, reason)
        self.assertIn("nowhere", reason)

    def assert_broken(self, *words: str) -> None:
        client = self.client()
        ready = client.get("/readyz")
        self.assertEqual(ready.status_code, 503)
        for word in words:
            self.assertIn(word, ready.json["reason"])
        score = client.post("/score", json={"instances": [[0] * 64]})
        self.assertEqual((score.status_code, score.json["error"]), (503, ready.json["reason"]))
        self.assertEqual(client.get("/healthz").status_code, 200)
        self.assertIn("app_model_ready 0.0", client.get("/metrics").text)

    def test_a_file_that_is_no_onnx(self) -> None:
        self.give_model(b"not a model")
        with self.assertLogs("scoring.loader", "ERROR"):
            self.assert_broken("tiny.onnx cannot be opened")

    def test_labels_that_do_not_fit(self) -> None:
        (self.folder / "labels.txt").write_text("only one\n")
        self.give_model()
        with self.assertLogs("scoring.loader", "ERROR"):
            self.assert_broken("labels.txt has 1 lines", "2 classes")

    def test_a_model_for_other_pictures(self) -> None:
        self.give_model(NARROW)
        with self.assertLogs("scoring.loader", "ERROR"):
            self.assert_broken("the model cannot be used", "cannot score 64 numbers")


class Labels(AppCase):
    def labels(self, **files: str) -> list[str]:
        for name, text in files.items():
            (self.folder / f"{name}.txt").write_text(text)
        self.give_model()
        answer = self.client().post("/score", json={"instances": [[0] * 64]})
        return list(answer.json["predictions"][0]["probabilities"])

    def test_numbers_without_a_file(self) -> None:
        self.assertEqual(self.labels(), ["0", "1"])

    def test_labels(self) -> None:
        self.assertEqual(self.labels(labels="up\ndown\n"), ["up", "down"])

    def test_synset(self) -> None:
        self.assertEqual(
            self.labels(synset="n01440764 tench, Tinca tinca\nn01443537 goldfish\n"),
            ["tench, Tinca tinca", "goldfish"],
        )


if __name__ == "__main__":
    unittest.main()
