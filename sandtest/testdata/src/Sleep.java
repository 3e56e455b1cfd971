public class Sleep {
	public static void main(String[] args) throws Exception {
		long start = System.nanoTime();
		Thread.sleep(50);
		System.out.println((System.nanoTime() - start) / 1000000);
	}
}
