import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import type { History } from './history';

/** How values are written. */
export type Format = (value: number) => string;

const HEIGHT = 180;

/** Lines in a plot at most: more cannot be told apart. */
const MAX_LINES = 8;

/** A plot of a history, which is drawn anew with {@link Plot.draw}. */
export class Plot {
  readonly element = document.createElement('figure');
  readonly #history: History;
  readonly #format: Format;
  readonly #top: number | undefined;
  #plot: uPlot | undefined;
  #made = '';

  /** `top` is the upper end of the axis, where it has one. */
  constructor(title: string, history: History, format: Format, top?: number) {
    this.#history = history;
    this.#format = format;
    this.#top = top;
    const caption = document.createElement('figcaption');
    caption.textContent = title;
    this.element.append(caption);
  }

  /** Draws what the history has now. */
  draw(): void {
    const lines = [...this.#history.lines].slice(0, MAX_LINES);
    const width = this.element.clientWidth;
    if (width === 0 || lines.length === 0) return;
    const style = getComputedStyle(this.element);
    const colours = lines.map((_, index) => style.getPropertyValue(`--line-${index + 1}`).trim());
    const ink = style.getPropertyValue('--faint').trim();
    const data = [this.#history.times, ...lines.map(([, values]) => values)] as uPlot.AlignedData;
    const made = JSON.stringify([lines.map(([name]) => name), colours, ink]);
    if (this.#plot && this.#made === made) {
      if (this.#plot.width !== width) this.#plot.setSize({ width, height: HEIGHT });
      this.#plot.setData(data);
      return;
    }
    this.#plot?.destroy();
    this.#made = made;
    this.#plot = new uPlot(
      this.#options(
        lines.map(([name]) => name),
        width,
        colours,
        ink,
      ),
      data,
      this.element,
    );
  }

  #options(names: string[], width: number, colours: string[], ink: string): uPlot.Options {
    const format = this.#format;
    const axis = { stroke: ink, grid: { stroke: `${ink}33`, width: 1 }, ticks: { show: false } };
    const top = this.#top;
    return {
      width,
      height: HEIGHT,
      cursor: { y: false },
      scales: { y: { range: (_, _low, high) => [0, top ?? Math.max(high * 1.1, 1)] } },
      axes: [axis, { ...axis, size: 76, values: (_, ticks) => ticks.map(format) }],
      series: [
        {},
        ...names.map((name, index) => ({
          label: name,
          stroke: colours[index] ?? ink,
          width: 2,
          points: { show: false },
          value: (_: uPlot, value: number | null) => (value === null ? '–' : format(value)),
        })),
      ],
    };
  }
}
