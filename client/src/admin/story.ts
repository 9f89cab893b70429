import type { ParticipantReport, Stats } from './api';

/** One moment of a participant: values of lines by their names. */
export interface Moment {
  /** Bits per second: what the path to it carries, and what it is sent. */
  path: Map<string, number>;
  /** Bits per second that it sends, a line for each layer. */
  sent: Map<string, number>;
  /** Percent of packets lost, a line for each source, up or down. */
  loss: Map<string, number>;
  /** The layer that it gets of each picture, from 1; 0: none. */
  layers: Map<string, number>;
}

/** What a report of a participant says of this moment. */
export function momentOf(report: ParticipantReport): Moment {
  const moment: Moment = { path: new Map(), sent: new Map(), loss: new Map(), layers: new Map() };
  const names = new Map(report.producers.map((p) => [p.producer, p.source]));
  const receiving = new Set(
    report.transportList.filter((t) => t.direction === 'recv').map((t) => t.transport),
  );
  const consumers = new Map(report.consumerList.map((c) => [c.consumer, `${c.of}: ${c.source}`]));
  for (const stats of report.stats) {
    if (stats.type === 'webrtc-transport' && receiving.has(stats.transportId ?? '')) {
      addTo(moment.path, 'estimate', stats.availableOutgoingBitrate);
      addTo(moment.path, 'sent', stats.sendBitrate);
    } else if (stats.type === 'inbound-rtp') {
      const source = names.get(stats.producerId ?? '') ?? 'unknown';
      const name = stats.rid === undefined ? source : `${source} ${stats.rid}`;
      addTo(moment.sent, name, stats.bitrate);
      mostOf(moment.loss, `up: ${source}`, percentLost(stats));
    } else if (stats.type === 'outbound-rtp') {
      const name = consumers.get(stats.consumerId ?? '') ?? 'unknown';
      mostOf(moment.loss, `down: ${name}`, percentLost(stats));
    }
  }
  for (const consumer of report.consumerList) {
    if (consumer.kind !== 'video') continue;
    const name = `${consumer.of}: ${consumer.source}`;
    moment.layers.set(name, consumer.layers ? consumer.layers[0] + 1 : 0);
  }
  return moment;
}

/** `fractionLost` is in units of 1/256 (RFC 3550). */
function percentLost(stats: Stats): number | undefined {
  return stats.fractionLost === undefined ? undefined : (stats.fractionLost * 100) / 256;
}

function addTo(line: Map<string, number>, name: string, value: number | undefined): void {
  if (value !== undefined) line.set(name, (line.get(name) ?? 0) + value);
}

function mostOf(line: Map<string, number>, name: string, value: number | undefined): void {
  if (value !== undefined) line.set(name, Math.max(line.get(name) ?? 0, value));
}
