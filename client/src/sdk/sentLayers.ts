import type { types } from 'mediasoup-client';

/**
 * Sends no layers of a simulcast that nobody takes: the server names the highest that anyone would, for each track
 * sent. The layers below stay on, so that a viewer with less room has something to fall back to.
 */
export class SentLayers {
  /** The newest word of the server, by producer. It may come before the producer is known here. */
  readonly #wanted = new Map<string, number>();
  readonly #applying = new Set<string>();

  /** The server has spoken. What is no layer is not listened to. */
  limit(producerId: string, spatialLayer: number, producer: types.Producer | undefined): void {
    if (!Number.isInteger(spatialLayer) || spatialLayer < 0) return;
    this.#wanted.set(producerId, spatialLayer);
    if (producer) void this.apply(producer);
  }

  /** Makes a track send what was said last of it. */
  async apply(producer: types.Producer): Promise<void> {
    const last = (producer.rtpParameters.encodings?.length ?? 0) - 1;
    if (producer.kind !== 'video' || last < 1 || this.#applying.has(producer.id)) return;
    this.#applying.add(producer.id);
    try {
      // What is said meanwhile counts: one change at a time, until the last is made.
      for (;;) {
        const wanted = Math.min(this.#wanted.get(producer.id) ?? last, last);
        if (producer.closed || wanted === (producer.maxSpatialLayer ?? last)) return;
        await producer.setMaxSpatialLayer(wanted);
        confirm(producer, wanted);
      }
    } catch (error) {
      // More is sent than anyone needs, and that is all.
      console.warn('opencall: the layers sent cannot be changed', error);
    } finally {
      this.#applying.delete(producer.id);
    }
  }

  /** A track is sent no more. */
  forget(producerId: string): void {
    this.#wanted.delete(producerId);
  }
}

/** mediasoup-client takes a change for made even where the browser has refused it. */
function confirm(producer: types.Producer, spatialLayer: number): void {
  const encodings = producer.rtpSender?.getParameters().encodings ?? [];
  const refused = encodings.some(
    ({ active }, layer) => (active !== false) !== layer <= spatialLayer,
  );
  if (refused) throw new Error(`the browser does not send layers 0 to ${spatialLayer} alone`);
}
