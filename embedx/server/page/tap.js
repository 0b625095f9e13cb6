/* The worklet that hands on what the microphone gives, at the device's own rate. */

class Tap extends AudioWorkletProcessor {
	process([input]) {
		if (input[0]) this.port.postMessage(input[0].slice());
		return true;
	}
}

registerProcessor("tap", Tap);
