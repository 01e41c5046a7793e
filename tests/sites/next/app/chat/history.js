export default function History() {
  return <p id="past">Nothing was said before.</p>;
}
