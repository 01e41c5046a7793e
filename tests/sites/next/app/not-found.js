export default function NotFound() {
  return <h1>No such berth</h1>;
}
